"""Every command of README and documentation runs, on what stands in for models and data."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from datasets import Dataset, DatasetDict
from PIL import Image

from palitune.main import palitune
from palitune.scripts import training_command
from palitune.user_modules import load_named
from tasks.base import Source
from tasks.metrics import java
from tasks.registry import built_in_names, get_task
from tests.docs.documented import commands, name_of, pages, program, stand_in_for, tried
from tests.helpers import REPOSITORY
from tests.models.test_clip import make_clip
from tests.models.tiny_families import maker
from tests.own_code import write_blocks
from tests.palitune.commands import WRITERS, script
from tests.tasks.test_frames_chat import write_frames

# What cannot be tried here: it installs, downloads, asks for an account or for further GPUs.
NOT_TRIED = ("make", "pip", "git", "hf", "apt-get", "docker", "conda", ".", "pre-commit", "demo")
RUNS = ("vqav2", "gqa", "docvqa", "quic360")
LEARNING = ("--num_epochs", "16", "--learning_rate", "5e-3")  # merges are chosen by scores above 0
FOLDERS = {"vqav2": "vqa", "gqa": "gqa", "docvqa": "docvqa", "coco_captioning": "coco"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which the commands run, with all that they name."""
    place = tmp_path_factory.mktemp("workplace")
    before = Path.cwd()
    os.chdir(place)
    # caption scores without Java: approximate, and 12 s faster
    patch = pytest.MonkeyPatch()
    patch.setattr(java.shutil, "which", lambda _: None)
    for name in ("blip2", "llava", "qwen2_vl"):
        maker(name)(place / "models" / name)
    make_clip(place / "models" / "clip")
    write_frames(place)
    shutil.copytree(place / "frames", place / "photos")
    shutil.copytree(place / "frames", place / "images")
    talk = [{"from": "human", "value": "<image>\nwhich?"}, {"from": "gpt", "value": "a gate"}]
    rows = [{"image": f"{n:02}.png", "conversations": talk} for n in range(8)]
    (place / "llava_instruct.json").write_text(json.dumps(rows))
    (place / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shutil.copy(place / "frames" / "00.png", place / "photo.jpg")
    _write_tables(place)
    _write_data(place)
    for path in sorted((REPOSITORY / "configs").rglob("*.yaml")):
        copy = place / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(stand_in_for(path.read_text()))
    for task in RUNS:
        _run(f"train {task}", [*tried(f"train {task}", _training(task)), *LEARNING], "the runs")
    for name in ("a", "b"):
        shutil.copytree(place / "runs" / "vqav2", place / "runs" / name)
    shutil.copytree(place / "runs", place / "ready")
    shutil.copytree(
        place / "runs" / "quic360", place / "results" / "vlm_ablation" / "qwen_vl_chat__lora_r16"
    )
    yield place
    patch.undo()
    os.chdir(before)


def _training(task: str) -> list[str]:
    tables = ["--train_csv", "train.csv", "--test_csv", "test.csv"]
    data = tables if task == "quic360" else ["--data_root", f"data/{FOLDERS[task]}"]
    return ["--model_path", "tiny", *data, "--output_dir", f"runs/{task}"]


def _write_tables(place: Path) -> None:
    rows = "".join(f"frames/{n:02}.png,what is here?,a gate {n}\n" for n in range(8))
    for folder, val in ((place, "val"), (place / "data" / "quic360", "valid")):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("train", val, "test"):
            (folder / f"{name}.csv").write_text(f"url,query,annotation\n{rows}")
    shutil.copytree(place / "frames", place / "data" / "quic360" / "frames")
    pairs = "".join(f"frames/{n:02}.png,frames/{7 - n:02}.png,same?,no\n" for n in range(8))
    for name in ("pairs", "pairs_test"):
        (place / f"{name}.csv").write_text(f"before,after,query,annotation\n{pairs}")
    own = "".join(f"frames/{n:02}.png;which gate?;{n}\n" for n in range(8))
    (place / "my_table.csv").write_text(f"photo;question;label\n{own}")
    for name in ("before", "after"):
        shutil.copy(place / "photo.jpg", place / f"{name}.jpg")


def _write_data(place: Path) -> None:
    """Official files of every task, results of VQAv2, and a set that `datasets` saved."""
    for task, folder in FOLDERS.items():
        more = {"karpathy": True} if folder == "coco" else {}
        WRITERS[task](place / "data" / folder, num_train=8, num_val=8, **more)
    task = get_task("vqav2")
    val = task.load("val", Source(data_root=place / "data" / "vqa"))
    answers = [{"question_id": e.example_id, "answer": "yes"} for e in val]
    (place / "results.json").write_text(json.dumps(answers))
    parts = {name: Dataset.from_dict(_rows()) for name in ("train", "validation", "test")}
    DatasetDict(parts).save_to_disk(str(place / "data" / "my_set"))


def _rows() -> dict[str, list[Any]]:
    images = [Image.new("RGB", (8, 6), (n, 0, 0)) for n in range(12)]
    return {
        "image": images,
        "question": ["which gate?"] * 12,
        "answer": [f"{n}" for n in range(12)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_commands_of_a_page_run(page: Path, workplace: Path) -> None:
    shutil.rmtree("runs")
    shutil.copytree("ready", "runs")  # each page finds the same runs
    write_blocks(page, workplace)
    for command in commands(page):
        kind, words = program(command)
        # a server runs until it is stopped; tests/serving tries it
        if kind.split()[0] not in (*NOT_TRIED, "torchrun", "python", "serve"):
            _run(kind, tried(kind, words), command)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_commands_of_a_page_are_understood(page: Path, tmp_path: Path) -> None:
    own = write_blocks(page, tmp_path)
    for command in commands(page):
        for file in own:
            command = command.replace(f" {file.name}", f" {file}")
        kind, words = program(command)
        if kind == "torchrun":
            kind, words = program(f"python {' '.join(words)}")
        if kind not in NOT_TRIED and kind != "python":
            found, words = _click(kind, words)
            found.make_context(kind, words)


def _run(kind: str, words: list[str], command: str) -> None:
    for place, word in enumerate(words):
        if word == "--output" and kind == "merge":
            shutil.rmtree(words[place + 1], ignore_errors=True)
        if kind == "split" and word.endswith(".csv"):  # another page has split it
            for part in Path().glob(f"{Path(word).stem}_*"):
                part.unlink()
    found, words = _click(kind, words)
    result = CliRunner().invoke(found, words)
    assert result.exit_code == 0, f"{command}\n{result.output[-2000:]}\n{result.exception}"


def _click(kind: str, words: list[str]) -> tuple[click.Command, list[str]]:
    name, _, task = kind.partition(" ")
    if task:
        load_named(words)
        return script(task) if task in built_in_names() else training_command(task), words
    found = palitune.commands[name]
    while isinstance(found, click.Group) and words and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    return found, words
