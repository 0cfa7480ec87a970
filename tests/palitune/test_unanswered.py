"""Records of official files without an answer are named before a model is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.base import Family
from tests.helpers import sentence
from tests.palitune.bad_inputs import ANNOTATIONS, edit
from tests.palitune.commands import DEFAULT_SPLIT, WRITERS, evaluate, run_command, train

Change = Callable[[Any], object]


def blank_captions(image_id: int) -> Change:
    def change(content: Any) -> None:
        for entry in content["annotations"]:
            entry["caption"] = " " if entry["image_id"] == image_id else entry["caption"]

    return change


FAULTS: dict[str, tuple[str, str, str, Callable[[int], Change]]] = {
    # the file, the ids of the first train and the last val record, and what goes wrong there
    "vqav2": (ANNOTATIONS, "103000", "502000", lambda _: _emptied("annotations", [])),
    "docvqa": ("spdocvqa_qas/{}_v1.0_withQT.json", "100", "500", lambda _: _emptied("data", None)),
    "gqa": (
        "questions1.2/{}_balanced_questions.json", "0100", "0500",
        lambda number: lambda content: content[f"0{number}"].update(answer="\t"),
    ),
    "coco_captioning": ("annotations/captions_{}2014.json", "100", "500", blank_captions),
}  # fmt: skip


def _emptied(key: str, answers: list[str] | None) -> Change:
    return lambda content: content[key][0].update(answers=answers)


def data_with_fault(task: str, root: Path, split: str) -> Path:
    WRITERS[task](root)
    file, *_, change = FAULTS[task]
    edit(root / file.format(split), change(100 if split == "train" else 500))
    return root


@pytest.fixture
def never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Family, "generate", lambda *_: pytest.fail("a model was asked"))


@pytest.mark.parametrize("task", FAULTS)
def test_a_training_on_them_is_refused(task: str, tmp_path: Path, pico: Path) -> None:
    data = data_with_fault(task, tmp_path / "data", "train")
    result = train(task, pico, data, tmp_path / "run", "--max_steps", 1, exit_code=2)
    error = sentence(result.exit_code, result.output)
    where = f"{task} split 'train': 1 of 4 examples have no answer ({FAULTS[task][1]})"
    assert where in error and "trying a step" not in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", FAULTS)
@pytest.mark.usefixtures("never_asked")
def test_a_scoring_by_them_is_refused(task: str, tmp_path: Path, pico: Path) -> None:
    split = DEFAULT_SPLIT[task]
    data = data_with_fault(task, tmp_path / "data", split)
    result = evaluate(task, pico, data, "--output_dir", tmp_path / "out", exit_code=2)
    error = sentence(result.exit_code, result.output)
    assert f"{task} split '{split}': 1 of 3 examples have no answer ({FAULTS[task][2]})" in error


@pytest.mark.parametrize("task", FAULTS)
def test_check_reports_each_of_them(task: str, tmp_path: Path) -> None:
    data = data_with_fault(task, tmp_path, "train")
    words = ("check", "--task", task, "--data_root", data, "--split", "train")
    lines = run_command(*words, exit_code=2).stdout.splitlines()
    assert lines == [
        f"{FAULTS[task][1]}  {data}  The record has no answer.",
        "4 examples: 3 usable, 1 reported",
    ]
