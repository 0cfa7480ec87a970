"""The model card of a merge: what it says, and that its code and its command do what they say."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.evaluation.card_code import check_card_code
from tests.helpers import read_json
from tests.merging.merge_inputs import TINY, run, write_adapters, write_run
from tests.merging.merge_tables import by_table
from tests.palitune.commands import run_command


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a, b and m, their merge as a full model, with the adapter in it."""
    folder = write_adapters(tmp_path_factory.mktemp("cards"))
    for name in "ab":
        write_run(folder / name, "digits")
    settings = ("--mode", "ties", "--density", 0.4, "--weights", "1,0.7", "--lambda", 0.8)
    scores = ("--evaluate", "digits", "--data_root", "sample", "--max_eval_samples", 3)
    more = ("--export", "both", "--rank", 4, "--device", "cpu")
    result = run(folder, folder / "m", *settings, *scores, *more)
    assert result.exit_code == 0, result.output
    return folder


def header(folder: Path) -> Any:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_header_has_the_scores_and_says_what_it_is(merged: Path) -> None:
    evaluation = read_json(merged / "m" / "merge_report.json")["evaluation"]
    for folder, library, tags in (
        (merged / "m", "transformers", {"merge"}),
        (merged / "m" / "adapter", "peft", {"merge", "lora"}),
    ):
        found = header(folder)
        assert found["library_name"] == library
        assert set(found["tags"]) == {*tags, "vision-language", "palitune"}
        assert "base_model" not in found  # a folder
        (result,) = found["model-index"][0]["results"]
        (metric,) = result["metrics"]
        assert (result["dataset"]["name"], result["dataset"]["split"]) == ("digits", "val")
        assert (metric["type"], metric["args"]["num_examples"]) == ("accuracy", 3)
        assert metric["value"] == evaluation["scores"]["merged"]["digits"]
        assert metric["args"]["interval_95"] == evaluation["intervals_95"]["merged"]["digits"]


@pytest.mark.parametrize("place", ["m", "m/adapter"])
def test_the_cards_code_answers_as_our_evaluation(merged: Path, place: str) -> None:
    check_card_code(merged / place, TINY, Image.new("RGB", (64, 64), "teal"))


def test_the_cards_command_makes_the_same_merge(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (merged / "m" / "README.md").read_text()
    assert str(merged) not in card
    (line,) = (line for line in card.splitlines() if line.startswith("python merge_vlm.py"))
    words = shlex.split(line)[2:]
    assert {"--density": "0.4", "--weights": "1.0,0.7", "--lambda": "0.8"}.items() <= dict(
        zip(words[::2], words[1::2], strict=True)
    ).items()
    monkeypatch.chdir(merged)  # where the card's names are folders
    words[words.index("--base_model") + 1] = str(TINY)
    words[words.index("--output") + 1] = str(tmp_path / "again")
    run_command("merge", *words)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        again = (tmp_path / "again" / name).read_bytes()
        assert again == (merged / "m" / name).read_bytes()


def test_a_merge_that_scores_chose_shows_those_of_other_examples(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_table(monkeypatch, {"adapter": (50,), "linear": (40,), "base": (0,), "merged": (30,)})
    scores = ("--evaluate", "digits", "--data_root", "sample", "--max_eval_samples", 7)
    sweep = ("--sweep", "mode=linear lambda=0.5,1", "--device", "cpu")
    result = run(merged, tmp_path / "out", *scores, *sweep)
    assert result.exit_code == 0, result.output
    (entry,) = header(tmp_path / "out")["model-index"][0]["results"]
    assert entry["metrics"][0]["value"] == 40
    assert entry["metrics"][0]["args"]["num_examples"] in (3, 4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "chosen on other examples than these" in card
