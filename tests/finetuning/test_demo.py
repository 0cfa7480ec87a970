"""The demo's baselines, its table and, in short, its whole."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from finetuning.cli import palitune
from finetuning.demo import majority, shuffle_images
from tasks.base import Dataset, Source
from tasks.digits import Digits
from tasks.registry import task_names


def test_each_example_gets_the_picture_of_another_one() -> None:
    examples = list(Digits().load("val", Source()))
    shuffled = shuffle_images(examples)
    own = [example.image.name for example in examples]
    others = [example.image.name for example in shuffled]
    assert sorted(own) == sorted(others)
    assert not [name for name, other in zip(own, others, strict=True) if name == other]
    assert [e.references for e in shuffled] == [e.references for e in examples]


def test_the_majority_answer_is_that_of_the_training_examples() -> None:
    digits = Digits().load("train", Source())
    sevens = [row for row in digits.rows if row[2] == 7]
    ones = [row for row in digits.rows if row[2] == 1]
    train = Dataset(Digits(), "train", sevens[:3] + ones[:2])
    held_out = Dataset(Digits(), "val", sevens[5:6] + ones[5:8])
    assert majority(Digits(), train, held_out) == 25.0  # one seven among four


@pytest.mark.slow
def test_the_demo_writes_a_row_for_each_of_the_five_tasks(tmp_path: Path) -> None:
    options = ["demo", "--output_dir", str(tmp_path), "--max_steps", "2"]
    result = CliRunner().invoke(palitune, options, catch_exceptions=False)
    assert result.exit_code == 0
    rows = json.loads((tmp_path / "summary.json").read_text())["tasks"]
    assert tuple(row["task"] for row in rows) == task_names()
    keys = ["task", "metric", "base", "finetuned", "shuffled", "majority"]
    for row in rows:
        assert list(row) == [*keys, "num_eval", "train_seconds"]
        assert row["num_eval"] == 300
        assert all(isinstance(row[key], int | float) for key in keys[2:])
        assert (tmp_path / row["task"] / "adapter_model.safetensors").is_file()
