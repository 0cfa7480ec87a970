"""evaluate() with a lambda for a model: extremes, the fixed shape of the report, its files."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tasks import files
from tasks import report as evaluation
from tasks.base import Dataset, Example, Source
from tasks.registry import get_task
from tasks.report import Report, evaluate
from tasks.report_files import write_predictions, write_report
from tasks.score_table import score_table
from tests.helpers import one_sentence
from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2

WRITERS: dict[str, Callable[[Path], Path]] = {
    "vqav2": write_vqav2,
    "docvqa": write_docvqa,
    "gqa": write_gqa,
    "coco_captioning": write_coco,
    "digits": lambda root: root,
}


def load(task: str, root: Path, split: str | None = None) -> Dataset:
    source = Source(data_root=WRITERS[task](root))
    return get_task(task).load(split or get_task(task).eval_splits[0], source).subset(5, seed=0)


def gold(examples: Sequence[Example]) -> list[str]:
    return [e.references[1] if len(e.references) > 2 else e.references[0] for e in examples]


def report_of(task: str, root: Path, predict: evaluation.Predict, **options: str) -> Report:
    return evaluate(get_task(task), predict, load(task, root, **options))


@pytest.mark.parametrize("name", ["vqav2", "docvqa", "gqa", "digits"])
def test_gold_answers_score_the_maximum(tmp_path: Path, name: str) -> None:
    assert report_of(name, tmp_path, gold).value == get_task(name).metric_range


@pytest.mark.usefixtures("no_java")
def test_gold_captions_score_the_maximum_where_all_references_agree(tmp_path: Path) -> None:
    write_coco(tmp_path)
    path = tmp_path / "annotations/captions_val2014.json"
    content = json.loads(path.read_text())
    texts = ["a cat on a mat", "two dogs in some park", "the red bus has stopped"]
    for a in content["annotations"]:
        a["caption"] = texts[a["image_id"] - 500]
    path.write_text(json.dumps(content))
    task = get_task("coco_captioning")
    report = evaluate(task, gold, task.load("val", Source(data_root=tmp_path)))
    assert report.value == pytest.approx(task.metric_range)


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize("name", list(WRITERS))
def test_empty_answers_score_zero(tmp_path: Path, name: str) -> None:
    assert report_of(name, tmp_path, lambda examples: [""] * len(examples)).value == 0


def test_predictions_are_cleaned_once_and_the_raw_ones_kept(tmp_path: Path) -> None:
    report = report_of("gqa", tmp_path, lambda examples: [" YES. "] * len(examples))
    assert list(report.predictions) == ["yes"] * 3
    assert list(report.raw_predictions) == [" YES. "] * 3


def test_the_split_is_scored_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("vqav2")
    calls = []
    score = task.score
    monkeypatch.setattr(task, "score", lambda p, e: calls.append(len(p)) or score(p, e))
    report_of("vqav2", tmp_path, gold)
    assert calls == [3]


def test_scoring_opens_no_image(tmp_path: Path, opened: list[str]) -> None:
    report_of("vqav2", tmp_path, gold)
    assert opened == []


def test_metrics_json_has_the_fixed_shape(tmp_path: Path) -> None:
    def predict(examples: Sequence[Example]) -> list[str]:
        return ["pink", "green", "dark"]  # 30, 100, 60: see tests/official_files.py

    content = report_of("vqav2", tmp_path, predict).metrics_json()
    fixed = ["task", "split", "num_examples", "metric", "value", "metrics", "breakdown"]
    assert list(content) == [*fixed, "uncertainty"]
    assert {key: content[key] for key in fixed} == {
        "task": "vqav2",
        "split": "val",
        "num_examples": 3,
        "metric": "vqa_accuracy",
        "value": pytest.approx(190 / 3),
        "metrics": {"vqa_accuracy": pytest.approx(190 / 3)},
        "breakdown": {
            "answer_type": {"number": pytest.approx(45), "other": pytest.approx(100)},
            "question_type": {"what color is the": pytest.approx(190 / 3)},
        },
    }


def test_an_example_counts_under_each_of_its_question_types(tmp_path: Path) -> None:
    def predict(examples: Sequence[Example]) -> list[str]:
        return ["red", "no", "no"]

    breakdown = report_of("docvqa", tmp_path, predict).breakdown
    # 500 and 502 are "layout", 501 "layout" and "form"; only 500 is right
    assert breakdown == {"question_type": {"form": 0, "layout": pytest.approx(1 / 3)}}


def test_numbers_among_the_tags_are_sorted_by_size() -> None:
    kinds = ["10", "9", "other", "2", "how many"]
    assert sorted(kinds, key=evaluation._numbers_by_size) == ["how many", "other", "2", "9", "10"]


def test_what_is_not_available_is_null_with_its_reason(tmp_path: Path) -> None:
    content = report_of("gqa", tmp_path, gold).metrics_json()
    assert content["metrics"]["validity"] is None
    assert "choices" in content["reasons"]["validity"]
    assert set(content["breakdown"]) == {"structural", "semantic", "words", "steps"}


@pytest.mark.usefixtures("no_java")
def test_captions_have_an_empty_breakdown(tmp_path: Path) -> None:
    assert report_of("coco_captioning", tmp_path, gold).metrics_json()["breakdown"] == {}


def test_a_withheld_split_is_predicted_but_not_scored(tmp_path: Path) -> None:
    report = report_of("vqav2", tmp_path, lambda examples: ["red"] * len(examples), split="test")
    content = report.metrics_json()
    assert content["value"] is None
    assert content["metrics"] == {"vqa_accuracy": None}
    assert content["reasons"] == {"vqa_accuracy": "the answers of split 'test' are withheld"}
    assert [row["score"] for row in report.prediction_rows()] == [None, None]


def test_scored_splits_without_references_are_refused(tmp_path: Path) -> None:
    dataset = load("vqav2", tmp_path, split="test")
    dataset.split = "val"
    with one_sentence("2 of 2 examples have no answer (900000, 901000)"):
        evaluate(get_task("vqav2"), lambda examples: ["x"] * len(examples), dataset)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    task = get_task("vqav2")
    with one_sentence("vqav2 split 'val' is empty"):
        evaluate(task, gold, Dataset(task, "val", []))


def test_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    dataset = load("vqav2", tmp_path)
    dataset.rows = [*dataset.rows, dataset.rows[0]]
    with one_sentence("more than once: 500000"):
        evaluate(get_task("vqav2"), gold, dataset)


def test_the_files_hold_the_report(tmp_path: Path) -> None:
    dataset = load("docvqa", tmp_path / "data")
    report = evaluate(get_task("docvqa"), lambda _: ["Rot é", "", "x"], dataset, ["A", "B", "C"])
    write_report(report, tmp_path / "out/val")
    assert sorted(os.listdir(tmp_path / "out/val")) == ["metrics.json", "predictions.jsonl"]
    metrics = (tmp_path / "out/val/metrics.json").read_text(encoding="utf-8")
    assert json.loads(metrics) == json.loads(json.dumps(report.metrics_json()))
    lines = (tmp_path / "out/val/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {
        "id": 500,
        "question": "What color is the page?",
        "image": str(tmp_path / "data/spdocvqa_images/page500_1.png"),
        "tags": {"question_type": ["layout"]},
        "prompt": "A",
        "raw_prediction": "Rot é",
        "prediction": "Rot é",
        "references": ["Red", "red paper"],
        "score": 0.0,
    }
    assert len(lines) == 3


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of("vqav2", tmp_path / "data", gold)
    write_report(report, tmp_path)
    before = (tmp_path / "metrics.json").read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with one_sentence(f"cannot be written to {tmp_path}: No space left on device"):
        write_report(report, tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == before


def test_predictions_do_not_stand_beside_the_scores_of_others(tmp_path: Path) -> None:
    report = report_of("vqav2", tmp_path / "data", gold)
    write_report(report, tmp_path)
    write_predictions(report, tmp_path)  # a scoring begins
    assert (tmp_path / "predictions.jsonl").is_file()
    assert not (tmp_path / "metrics.json").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    report = report_of("vqav2", tmp_path / "data", gold)
    (tmp_path / "file").touch()
    with one_sentence(f"cannot be written to {tmp_path}/file/val"):
        write_report(report, tmp_path / "file/val")


def test_the_table_shows_the_headline_and_what_is_not_available(tmp_path: Path) -> None:
    lines = score_table(report_of("gqa", tmp_path, gold)).splitlines()
    assert lines[0] == "gqa, split 'testdev', 3 examples"
    # three of three: the exact lower limit is 0.025 ** (1 / 3) = 0.2924
    assert lines[1] == "  accuracy       100  (95 %: 29.24 to 100)"
    (missing,) = [line for line in lines if "not available" in line]
    assert "validity" in missing and "(it takes the official choices file" in missing
