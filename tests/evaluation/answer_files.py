"""Files of answers to official questions, scored from the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from palitune.main import palitune
from tests.official_files import write_docvqa, write_gqa, write_vqav2

IMAGE_FOLDERS = ("images", "val2014", "train2014", "test2014", "test2015", "spdocvqa_images")
# the images 500, 501, 502 are red, green, blue: see tests/official_files.py
ANSWERS: dict[str, tuple[Callable[[Path], Path], list[dict[str, Any]], float]] = {
    "vqav2": (
        write_vqav2,
        # 1 of 10 answers, 7 of 10, 2 of 10
        [
            {"question_id": 500000, "answer": "pink"},
            {"question_id": 501000, "answer": "green"},
            {"question_id": 502000, "answer": "Dark"},
        ],
        (30 + 100 + 60) / 3,
    ),
    "docvqa": (
        write_docvqa,
        # one letter of 4 wrong; white space; nothing alike
        [
            {"questionId": 500, "answer": "reds"},
            {"questionId": 501, "answer": " green"},
            {"questionId": 502, "answer": "x"},
        ],
        (0.75 + 1 + 0) / 3,
    ),
    "gqa": (
        write_gqa,
        # the rule compares with case: what a file says is not cleaned
        [
            {"questionId": "0500", "prediction": "yes"},
            {"questionId": "0501", "prediction": "Green"},
            {"questionId": "0502", "prediction": "yes"},
        ],
        200 / 3,
    ),
}


def without_images(root: Path) -> Path:
    for name in IMAGE_FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
    assert not [*root.rglob("*.jpg"), *root.rglob("*.png")]
    return root


def write_file(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(palitune, ["eval", *map(str, arguments)])


def score_file(task: str, root: Path, content: Any, *options: object) -> Result:
    """Score `content` against the data in `root`; the scores go to root/out."""
    path = write_file(root / "given.json", content)
    settings = ("--task", task, "--data_root", root, "--predictions", path)
    return run(*settings, "--output_dir", root / "out", *options)


def metrics_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "out/metrics.json").read_text())  # type: ignore[no-any-return]
