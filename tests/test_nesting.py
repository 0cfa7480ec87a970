"""Input that is nested a hundred thousand deep is refused in one sentence, wherever it is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.json_files import read_json
from experiments.yaml_settings import read_yaml
from tasks.files import decode
from tasks.registry import get_task
from tasks.result_files import read_predictions
from tasks.tables import read_rows
from tests.helpers import one_sentence

DEEP = 100_000


def _table(path: Path) -> Any:
    return read_rows(path, {"a": ["a"]}, lenient=False)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "settings": ("run.json", read_json),
    "annotations": ("questions.json", lambda path: decode(path, dict[str, Any])),
    "a table": ("table.jsonl", _table),
    "predictions": ("a.jsonl", lambda path: read_predictions(path, get_task("vqav2"))),
    "results": ("a.json", lambda path: read_predictions(path, get_task("gqa"))),
}


@pytest.mark.parametrize("case", READERS)
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json(case: str, opening: str, tmp_path: Path) -> None:
    name, read = READERS[case]
    (tmp_path / name).write_text(opening * DEEP)
    with one_sentence(name):
        read(tmp_path / name)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_yaml(opening: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(opening * 20_000)
    with one_sentence("grid.yaml"):
        read_yaml(tmp_path / "grid.yaml")


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"seed": ' + "9" * 5000 + "}")
    with one_sentence("run.json", "is not valid JSON"):
        read_json(tmp_path / "run.json")
