"""The score to stand beside an adapter's is of the same images and by the same code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.json_files import write_json
from evaluation.known_base import find_base
from evaluation.own_code import used_code
from evaluation.provenance import describe_data
from tasks.base import Example, Task, Turn
from tasks.images import FileImage
from tasks.own_metric import with_metric
from tasks.registry import get_task
from tasks.report import Report

TASK = get_task("csv_qa")


def report_on(image: Path, task: Task = TASK, adapter: str | None = None) -> Report:
    example = Example(
        example_id=1,
        image=FileImage(str(image)),
        turns=(Turn("user", "what?"),),
        references=("red",),
    )
    origin: Mapping[str, Any] = {
        "base_model": "tiny",
        "adapter": adapter,
        "quantization": "none",
        "rule": task.rule,
        "data": describe_data("test", [example]),
        "own_code": used_code([task]),
    }
    return Report(
        task=task,
        split="test",
        examples=[example],
        prompts=(),
        raw_predictions=["red"],
        predictions=["red"],
        additions={"provenance": origin},
    )


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, width in (("a", 10), ("moved", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (width, 10)).save(tmp_path / name / "1.bmp")


def keep(report: Report) -> None:
    """Write a base's score of 1/4 where `eval` writes it."""
    place = Path("runs/evaluation/tiny") / report.task.name / "test/metrics.json"
    write_json(place, {**report.metrics_json(), "value": 0.25})


@pytest.mark.parametrize(("folder", "value"), [("moved", 0.25), ("b", None)])
def test_a_score_of_other_images_is_not_the_bases(folder: str, value: float | None) -> None:
    keep(report_on(Path("a/1.bmp")))
    base = find_base(report_on(Path(folder) / "1.bmp", adapter="run"))
    assert (base.value if base else None) == value


@pytest.mark.parametrize(("file", "value"), [("half.py", 0.25), ("whole.py", None)])
def test_a_score_by_other_bytes_of_the_metric_is_not_the_bases(
    file: str, value: float | None
) -> None:
    for name, constant in (("half.py", 0.5), ("whole.py", 1.0)):
        Path(name).write_text(f"def good(prediction, references):\n    return {constant}\n")
    keep(report_on(Path("a/1.bmp"), with_metric(TASK, "half.py:good")))
    adapted = report_on(Path("a/1.bmp"), with_metric(TASK, f"{file}:good"), adapter="run")
    base = find_base(adapted)
    assert (base.value if base else None) == value
