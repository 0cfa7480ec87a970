"""A path that is not there is said first, with the nearest one that is."""

import json
from pathlib import Path

import pytest
from PIL import Image

from palitune.main import palitune
from tests.helpers import hashes, sentence
from tests.palitune.commands import run_command

# a command with one path misspelt -> how it is called in the sentence, and the near path
COMMANDS = {
    "eval --csv mine.csv --model_path runs/mnie": ("runs/mnie", "runs/mine"),
    "eval --model_path rusn/mine": ("rusn/mine", "runs/mine"),
    "eval --csv mine.csv --model_path ./runs/mnie": ("./runs/mnie", "runs/mine"),
    "eval --csv mine.csv --model_path tinyy": ("tinyy", "tiny"),
    "eval --csv mine.csv --model_path tiny --lora_path runs/mnie": ("runs/mnie", "runs/mine"),
    "eval --csv mien.csv --model_path tiny": ("The table mien.csv", "mine.csv"),
    "eval --csv mine.csv --predictions runs/mine/run.jsn": ("runs/mine/run.jsn", "{0}/run.json"),
    "eval --csv mine.csv --model_path tiny --data_root photso": ("--data_root photso", "photos"),
    "eval --csv mine.csv --model_path tiny --chat_template my_chat.jina": (
        "my_chat.jina",
        "my_chat.jinja",
    ),
    "predict photos/one.png --question x --model_path runs/mnie": ("runs/mnie", "runs/mine"),
    "predict photo/one.png --question x --task csv_qa --model_path tiny": (
        "photo/one.png",
        "photos/one.png",
    ),
    "train csv_qa --model_path tiny --train_csv mnie.csv": ("The table mnie.csv", "mine.csv"),
    "train csv_qa --model_path tiny --train_csv mine.csv --val_csv mine.tsv": (
        "The table mine.tsv",
        "mine.csv",
    ),
    "train csv_qa --model_path tiny --train_csv mine.csv --test_csv Mine.csv": (
        "The table Mine.csv",
        "mine.csv",
    ),
    "train csv_qa --model_path runs/mnie --train_csv mine.csv": ("runs/mnie", "runs/mine"),
    "train csv_qa --model_path tiny --train_csv mine.csv --lora_init_from runs/mnie": (
        "runs/mnie is none",
        "runs/mine",
    ),
    "train csv_qa --model_path tiny --hub_repo photso": ("photso", "photos"),
    "train --task csv_qa,digits --model_path tiny --data_root csv_qa=photso": (
        "--data_root photso",
        "photos",
    ),
    "train csv_qa --config runs/mine/rn.json": ("--config runs/mine/rn.json", "{0}/run.json"),
    "train frames_chat --model_path tiny --frames photso": ("--frames photso", "photos"),
    "preview --task csv_qa --csv mein.csv --model_path tiny": ("The table mein.csv", "mine.csv"),
    "check --task csv_qa --csv mein.csv": ("The table mein.csv", "mine.csv"),
    "inspect mein.csv": ("mein.csv", "mine.csv"),
    "split mein.csv": ("mein.csv", "mine.csv"),
    "report runs/mnie": ("runs/mnie", "runs/mine"),
    "compare runs/mnie runs/mine": ("runs/mnie", "runs/mine"),
    "runs rusn": ("rusn is no folder", "runs"),
    "merge --base_model tiny --model_a runs/mnie --output new": (
        "No adapter at runs/mnie",
        "runs/mine",
    ),
    "push runs/mnie me/mine": ("runs/mnie", "runs/mine"),
    "serve --model_path runs/mnie": ("runs/mnie", "runs/mine"),
    "doctor --model_path runs/mnie": ("runs/mnie", "runs/mine"),
    "ablate --config my_gird.yaml": ("File 'my_gird.yaml'", "my_grid.yaml"),
    "pipeline run --env_file my_grid.ymal": ("--env_file my_grid.ymal", "my_grid.yaml"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table, its photo, a run without weights and other files; no Hub can be reached."""
    for module in ("models.hub_files", "tasks.hub_download"):
        monkeypatch.setattr(f"{module}.hub_is_reachable", lambda: False)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "runs/mine/run.json").write_text(json.dumps({"task": "csv_qa", "settings": {}}))
    (tmp_path / "mine.csv").write_text("image,question,answer\nphotos/one.png,what?,red\n")
    for name in ("my_chat.jinja", "my_grid.yaml"):
        (tmp_path / name).touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos/one.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_path_is_said_with_the_near_one(command: str, here: Path) -> None:
    before = hashes(here)
    result = run_command(*command.split(), exit_code=2)
    message = sentence(2, result.output)
    what, near = COMMANDS[command]
    assert "--task is missing" not in message
    assert message.index(what) < message.index(f"; did you mean {near.format('runs/mine')}?")
    assert hashes(here) == before


def test_a_name_on_the_hub_is_no_missing_path(here: Path) -> None:
    (here / "google").mkdir()
    for words in (["--task", "vqav2"], []):
        result = run_command("eval", "--model_path", "google/paligemma", *words, exit_code=2)
        assert "Model google/paligemma is no folder here" in sentence(2, result.output)
        assert "did you mean" not in result.output


def test_the_hub_is_asked_for_a_name_although_a_folder_here_is_near(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = here / "config.json"
    config.write_text('{"model_type": "paligemma"}')

    def bring(name: str, revision: str | None, file: str) -> Path | None:
        assert name == "runs/mnie"
        return config if file == "config.json" else None

    monkeypatch.setattr("models.hub_files._hub_file", bring)
    result = run_command("eval", "--model_path", "runs/mnie", exit_code=2)
    assert "--task is missing; it is one of" in sentence(2, result.output)


def test_every_command_that_takes_a_path_is_tried() -> None:
    assert {*palitune.commands} - {command.split()[0] for command in COMMANDS} == {
        *("configs", "demo", "tasks"),  # these read no path
    }
