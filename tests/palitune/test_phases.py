"""Before each part of the work that takes seconds a line says what is being done."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import REPOSITORY


def phases(place: Path, *words: str) -> list[str]:
    """What a fresh process says on the way; times and counts are of other tests."""
    result = subprocess.run(
        [sys.executable, "-m", "palitune.main", *words, "--model_path", "tiny"],
        cwd=place, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(place)},
    )  # fmt: skip
    starts = ("loading", "trying", "training", "answering digits", "scoring")
    return [
        line.partition(",")[0] for line in result.stderr.splitlines() if line.startswith(starts)
    ]


@pytest.mark.slow
def test_a_training_says_what_takes_its_time(tmp_path: Path) -> None:
    words = ("--max_steps", "1", "--max_train_samples", "4", "--max_eval_samples", "4")
    assert phases(tmp_path, "train", "digits", *words) == [
        "loading PyTorch and transformers",
        "loading the weights of tiny",
        "trying a step to plan its memory",
        "training digits: 1/1 steps",
        "answering digits: 4/4 examples",
        "scoring 4 answers of digits",
    ]


@pytest.mark.slow
def test_an_answer_says_what_takes_its_time(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    said = phases(tmp_path, "predict", "a.png", "--task", "csv_qa", "--question", "what?")
    assert said == ["loading PyTorch and transformers", "loading the weights of tiny"]
