"""Cells of tables: what is a text, what is several, what is empty, what is refused."""

import json
import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from tasks.base import Source
from tasks.cells import RowTexts, text_cell, text_cells
from tasks.registry import get_task
from tests.helpers import one_sentence

FEATURES = {
    "image": datasets.Image(),
    "question": datasets.Value("string"),
    "answer": datasets.Value("string"),
}


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (" red ", "red"),
        (2, "2"),
        (0, "0"),
        (0.5, "0.5"),
        (3.0, "3"),
        (-0.0, "0"),
        (True, "True"),
        (False, "False"),
        ("3.0", "3.0"),
        ("nan", "nan"),  # the food, where a person wrote it
        (Decimal("1.50"), "1.50"),
        (date(2024, 1, 31), "2024-01-31"),
        ("\ue001", "\ue001"),  # a sign of a font's own
    ],
)
def test_a_cell_is_a_text_without_outer_white_space(cell: object, text: str) -> None:
    assert text_cell(cell, "line 2") == text


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("\u200b\ufeff ", "is empty"),  # nothing to be seen
        (datetime(2024, 1, 31), "is a datetime"),  # whose hours nobody wrote
        (None, "is empty"),
        (math.nan, "is empty"),
        (math.inf, "is inf"),
        (b"red", "is a bytes"),
        ({"en": "red", "fr": "rouge"}, "is an object with the keys en, fr"),
    ],
)
def test_what_is_no_text_is_an_error_that_says_where(cell: object, what: str) -> None:
    with one_sentence(f"t.csv, line 7 {what}"):
        text_cell(cell, "t.csv, line 7")


@pytest.mark.parametrize(
    ("cell", "texts", "num_empty"),
    [
        ("red", ("red",), 0),
        (["red", " crimson "], ("red", "crimson"), 0),
        (["red", "", None, math.nan], ("red",), 3),
        ([{"answer": "red", "answer_id": 1}, {"text": "crimson"}], ("red", "crimson"), 0),
        ('["red", "crimson"]', ("red", "crimson"), 0),
        ("['red', \"it's red\"]", ("red", "it's red"), 0),
        ("[1, 2]", ("[1, 2]",), 0),  # numbers: a box, say
        ("[red]", ("[red]",), 0),
        ([1.0, 2.5], ("1", "2.5"), 0),
    ],
)
def test_a_cell_may_hold_several_texts(
    cell: object, texts: tuple[str, ...], num_empty: int
) -> None:
    assert text_cells(cell, "row 1") == (texts, num_empty)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (["", None], "row 1 is a list of empty texts"),
        ([], "row 1 is an empty list"),
        (" [] ", "row 1 is an empty list"),
        ([["a"]], "row 1 is a list, and must be a text; write it into the table"),
        ([{"en": "red"}], "row 1 is an object with the keys en"),
        ([{"answer": "a", "text": "b"}], "row 1 is an object with the keys answer, text"),
    ],
)
def test_several_of_which_none_is_a_text_are_refused(cell: object, message: str) -> None:
    with one_sentence(message):
        text_cells(cell, "row 1")


def saved(folder: Path, rows: dict[str, list[Any]], **features: Any) -> Path:
    """A data set that `datasets` saved, each row with an image."""
    images = [Image.new("RGB", (8, 8))] * len(next(iter(rows.values())))
    names = {**FEATURES, **features}
    kinds = datasets.Features({name: names[name] for name in ("image", *rows)})
    table = datasets.Dataset.from_dict({"image": images, **rows}, kinds)
    datasets.DatasetDict(train=table).save_to_disk(str(folder))
    return folder


def answers(folder: Path, task: str = "image_qa", **columns: str) -> list[tuple[str, ...]]:
    data = get_task(task).load("train", Source(data_root=folder, columns=columns))
    return [tuple(example.references) for example in data]


def test_a_class_is_its_name(tmp_path: Path) -> None:
    rows = {"question": ["q"] * 3, "answer": [1, 0, 1]}
    label = datasets.ClassLabel(names=["cat", "dog"])
    assert answers(saved(tmp_path, rows, answer=label)) == [("dog",), ("cat",), ("dog",)]


def test_classes_in_lists_are_their_names(tmp_path: Path) -> None:
    rows = {"question": ["q"], "answer": [[1, 0]]}
    label = datasets.List(datasets.ClassLabel(names=["cat", "dog"]))
    assert answers(saved(tmp_path, rows, answer=label)) == [("dog", "cat")]


def test_a_class_that_is_not_given_is_an_empty_cell(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["cat", "dog"])
    folder = saved(tmp_path, {"question": ["q", "q"], "answer": [1, -1]}, answer=label)
    with one_sentence("row 1, column of the response is empty"):
        answers(folder)


@pytest.mark.parametrize("names", [{"answer": "label"}, {"response": "label"}])
def test_a_column_is_named_as_the_readme_or_as_the_error_has_it(
    names: dict[str, str], tmp_path: Path
) -> None:
    rows = {"question": ["q"], "answer": ["wrong"], "label": ["right"]}
    folder = saved(tmp_path, rows, label=datasets.Value("string"))
    assert answers(folder, **names) == [("right",)]


def test_a_column_inside_a_column_is_named_with_a_point(tmp_path: Path) -> None:
    rows = {"question": [{"en": "what?", "fr": "quoi?"}], "answer": ["this"]}
    feature = {"en": datasets.Value("string"), "fr": datasets.Value("string")}
    folder = saved(tmp_path, rows, question=feature)
    with one_sentence("column of the instruction is an object with the keys en, fr"):
        answers(folder)
    source = Source(data_root=folder, columns={"question": "question.fr"})
    (example,) = get_task("image_qa").load("train", source)
    assert example.turns[0].text == "quoi?"


def test_numbers_with_an_empty_cell_between_them(tmp_path: Path) -> None:
    rows = {"question": ["q"] * 3, "answer": [3.0, math.nan, 2.5]}
    folder = saved(tmp_path, rows, answer=datasets.Value("float64"))
    with one_sentence("row 1, column of the response is empty"):
        answers(folder)


def test_empty_texts_among_several_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"question": ["q"] * 3, "answer": [["a", ""], ["b"], ["", "c"]]}
    folder = saved(tmp_path, rows, answer=datasets.List(datasets.Value("string")))
    assert answers(folder) == [("a",), ("b",), ("c",)]
    assert "empty texts among the responses of 2 row(s) are left out: row 0, row 2." in caplog.text


def test_a_json_table_gives_the_same_texts(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    cells = [3.0, True, ["a", ""], [{"answer": "b"}], "c"]
    lines = [{"image": "a.png", "instruction": "q", "response": cell} for cell in cells]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    data = get_task("csv_qa").load("val", Source(tables={"val": path}))
    found = [tuple(example.references) for example in data]
    assert found == [("3",), ("True",), ("a",), ("b",), ("c",)]


@pytest.mark.parametrize("cell", ["[]", []])
def test_an_empty_list_is_no_answer_where_none_must_be(cell: object) -> None:
    assert RowTexts(needs_answers=False).read("q", cell, "t.csv, line 2") == ("q", ())
    with one_sentence("column of the response is an empty list; fill in one text at least"):
        RowTexts().read("q", cell, "t.csv, line 2")


def test_numbers_that_are_taken_for_several_responses_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = RowTexts()
    found = [
        texts.read("q", cell, f"t.jsonl, line {number}")[1]
        for number, cell in enumerate([[10, 20], [3, 3.0], "[10, 20]", ["10", "20"], [0.5, 1]])
    ]
    assert found == [("10", "20"), ("3", "3"), ("[10, 20]",), ("10", "20"), ("0.5", "1")]
    texts.report("t.jsonl")
    assert "in the lists of 2 row(s) is taken for an accepted response" in caplog.text
    assert caplog.text.strip().endswith(": line 0, line 4.")
