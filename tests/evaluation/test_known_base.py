"""The score to stand beside an adapter's is of the same images and by the same code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.json_files import write_json
from evaluation.known_base import find_base
from evaluation.provenance import describe_data
from tasks.base import Example, Turn
from tasks.images import FileImage
from tasks.registry import get_task
from tasks.report import Report

TASK = get_task("csv_qa")


def report_on(image: Path, *, adapter: str | None = None, sha256: str = "0" * 64) -> Report:
    example = Example(
        example_id=1,
        image=FileImage(str(image)),
        turns=(Turn("user", "what?"),),
        references=("red",),
    )
    metric = {"kind": "metric", "names": ["good"], "module": "f.py", "path": "/f.py"}
    origin: Mapping[str, Any] = {
        "base_model": "tiny",
        "adapter": adapter,
        "quantization": "none",
        "rule": TASK.rule,
        "data": describe_data("test", [example]),
        "own_code": [metric | {"sha256": sha256}],
    }
    return Report(
        task=TASK,
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


@pytest.mark.parametrize(("sha256", "value"), [("1" * 64, 0.25), ("2" * 64, None)])
def test_a_score_by_other_bytes_of_the_metric_is_not_the_bases(
    sha256: str, value: float | None
) -> None:
    keep(report_on(Path("a/1.bmp"), sha256="1" * 64))
    base = find_base(report_on(Path("a/1.bmp"), sha256=sha256, adapter="run"))
    assert (base.value if base else None) == value
