"""The demo's baselines, its table and, in short, its whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.demo import majority, shuffle_images
from experiments.demo_pages import write_demo_pages
from palitune.main import palitune
from tasks.base import Dataset, Source
from tasks.digits import Digits
from tasks.registry import get_task
from tests.evaluation.evaluated import save_pair
from tests.helpers import read_page


def test_each_example_gets_the_image_of_another_one() -> None:
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


def check_merge(found: dict[str, Any], folder: Path) -> None:
    assert found["num_examples"] == {"gqa": 100, "vqav2": 100}
    subset = Dataset(get_task("gqa"), "testdev", range(300)).subset(100, seed=0).rows
    for place, score in (
        ("gqa/evaluation/testdev", found["scores"]["own"]["gqa"]),
        ("gqa/base", found["base"]["gqa"]),
    ):
        lines = (folder / place / "predictions.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert score == pytest.approx(sum(rows[index]["score"] for index in subset) / 100)
    for mode in ("balanced", "ties"):
        for task, score in found["scores"][mode].items():
            share = score / found["scores"]["own"][task]
            assert found["retention"][mode][task] == pytest.approx(share)
            assert score > found["base"][task]


def check_index(index: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> None:
    """One entry for each number of summary.json; those of a model lead to both models' answers."""
    names = {
        "base": "base",
        "fine-tuned": "finetuned",
        "images of other examples": "shuffled",
        "most frequent answer": "majority",
    }
    found = {
        (entry["settings"]["task"], names[entry["settings"]["answers of"]]): entry
        for entry in index["entries"]
    }
    assert len(found) == len(index["entries"]) == 4 * len(rows)
    for (task, name), entry in found.items():
        (row,) = [row for row in rows if row["task"] == task]
        assert (entry["value"], entry["metric"]) == (row[name], row["metric"])
        assert entry["num_examples"] == row["num_eval"]
        if name in ("base", "finetuned"):
            page = read_page(folder / entry["report"])
            values = {run["name"]: run["value"] for run in page["runs"]}
            assert values == {"A": row["base"], "B": row["finetuned"]}


def test_the_demo_ends_in_one_page_of_all_tasks(tmp_path: Path) -> None:
    # of 12 questions A has every third right and B every second
    base, tuned = save_pair(tmp_path / "saved", 12)
    (tmp_path / "vqav2/evaluation").mkdir(parents=True)
    base.rename(tmp_path / "vqav2/base")
    tuned.rename(tmp_path / "vqav2/evaluation/val")
    row = {"task": "vqav2", "metric": "vqa_accuracy", "num_eval": 12}
    row |= {"base": pytest.approx(100 / 3), "finetuned": 50.0, "shuffled": 8.5, "majority": 25.0}
    write_demo_pages(tmp_path, [row])
    check_index(read_page(tmp_path / "index.html"), [row], tmp_path)


@pytest.mark.slow
def test_the_demo_is_clearly_better_than_its_base_and_than_blindness(tmp_path: Path) -> None:
    """The whole of it, about nine minutes on two cores."""
    options = ["demo", "--output_dir", str(tmp_path)]
    result = CliRunner().invoke(palitune, options, catch_exceptions=False)
    assert result.exit_code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    check_merge(summary["merge"], tmp_path)
    rows = summary["tasks"]
    assert f"{tmp_path / 'index.html'}\n" in result.output
    check_index(read_page(tmp_path / "index.html"), rows, tmp_path)
    names = [row["task"] for row in rows]
    assert names == ["coco_captioning", "docvqa", "gqa", "vqav2", "digits"]
    keys = ["task", "metric", "base", "finetuned", "shuffled", "majority"]
    for row in rows:
        assert list(row) == [*keys, "num_eval", "train_seconds"]
        assert row["num_eval"] == 300
        assert (tmp_path / row["task"] / "adapter_model.safetensors").is_file()
        without_sight = max(row["base"], row["shuffled"])
        if row["task"] == "coco_captioning":
            assert row["finetuned"] >= 2 * without_sight
        else:
            margin = 0.2 * get_task(row["task"]).metric_range
            assert row["finetuned"] >= without_sight + margin, row
    (digits,) = [row for row in rows if row["task"] == "digits"]
    assert digits["finetuned"] >= 85


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vqav2").mkdir()
    result = CliRunner().invoke(palitune, ["demo", "--output_dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "not empty and no demo's folder" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["vqav2"]
