"""Tables as spreadsheets write them, and image names as other systems spell them."""

import json
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from PIL import Image

from tasks.base import Source
from tasks.registry import get_task
from tasks.tables import read_rows
from tests.helpers import one_sentence

COLUMNS = {"image": ("image",), "question": ("question",), "answer": ("answer",)}
HEADER = "image,question,answer\n"


def read(folder: Path, text: str, *, lenient: bool = False, suffix: str = ".csv") -> list[Any]:
    path = folder / f"t{suffix}"
    path.write_text(text, newline="", encoding="utf-8")
    rows = read_rows(path, COLUMNS, lenient=lenient)
    return [(number, *cells.values()) for number, cells in rows]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a.png,what?,red\n",
        HEADER + "a.png,what?,red,,\n",
        "image,question,answer,,\n" + "a.png,what?,red,,\n",
        "image , question, answer\na.png,what?,red\n",
        HEADER + "a.png, what?, red\n",
        HEADER + 'a.png, "what?", "red"\n',
        HEADER + "a.png,what?,red\n,,\n,,,,\n",
    ],
    ids=[
        *("plain", "empty cells behind", "and in the header", "blanks around names"),
        *("blanks behind commas", "blanks before quotes", "rows of commas"),
    ],
)
def test_what_a_spreadsheet_adds_changes_nothing(text: str, lenient: bool, tmp_path: Path) -> None:
    assert read(tmp_path, text, lenient=lenient) == [(2, "a.png", "what?", "red")]


def test_a_blank_before_a_quote_keeps_the_comma_inside(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + 'a.png, "red, or blue?", "red, blue"\n') == [
        (2, "a.png", "red, or blue?", "red, blue")
    ]


@pytest.mark.parametrize("line", ["a.png,what?,red, then blue\n", "a.png,what?,red, then blue,\n"])
def test_the_advice_of_a_lenient_reading_gives_the_text_as_it_was(
    line: str, tmp_path: Path
) -> None:
    with one_sentence("--csv_lenient"):
        read(tmp_path, HEADER + line)
    assert read(tmp_path, HEADER + line, lenient=True) == [(2, "a.png", "what?", "red, then blue")]


def test_the_line_that_names_the_separator_is_no_header(tmp_path: Path) -> None:
    assert read(tmp_path, "sep=,\r\n" + HEADER + "a.png,what?,red\n") == [
        (3, "a.png", "what?", "red")
    ]
    text = "sep=;\n" + HEADER.replace(",", ";") + 'a.png;"a;b, c";red\n'
    assert read(tmp_path, text) == [(3, "a.png", "a;b, c", "red")]


def test_tabs_stand_between_the_cells_of_a_tsv(tmp_path: Path) -> None:
    text = HEADER.replace(",", "\t") + 'a.png\twhat, then?\t"red\tor blue"\n'
    assert read(tmp_path, text, suffix=".tsv") == [(2, "a.png", "what, then?", "red\tor blue")]


@pytest.mark.parametrize(
    "text",
    [
        "image;question;answer;left, right\na.png;one, two, or three?;red;\n",
        "image;question;answer;left, right, or, both\na.png;one, two, or three?;red;\n",
        'image;question;answer;"left, right"\n"a.png";"one, two, or three?";"red";\n',
        'image,question,answer,a;b;c;d\na.png,"one, two, or three?",red,\n',
        'image,question,answer,a;b;c;d\na.png,"one, two, or\nthree?",red,;;;;\n',
    ],
)
def test_the_sign_between_cells_is_the_one_of_header_and_first_row(
    text: str, tmp_path: Path
) -> None:
    ((_, image, question, answer),) = read(tmp_path, text)
    found = (image, " ".join(question.split()), answer)
    assert found == ("a.png", "one, two, or three?", "red")


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    long = "word " * 60_000
    ((number, _, question, answer),) = read(tmp_path, f'{HEADER}a.png,"{long}","{long}"\n')
    assert (number, len(question), len(answer)) == (2, 300_000, 300_000)


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    text = HEADER + 'a.png,"two\nlines",red\n\n,,\nb.png,what?,blue\n'
    assert [row[0] for row in read(tmp_path, text)] == [2, 6]


# --- names of images


def names(folder: Path, cells: list[Any], suffix: str = ".jsonl") -> list[str]:
    path = folder / f"t{suffix}"
    rows = [{"image": cell, "instruction": "q", "response": "a"} for cell in cells]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    data = get_task("csv_qa").load("val", Source(tables={"val": path}))
    return [example.image.name for example in data]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", normalize("NFC", "caf\u00e9.png"), "c d.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("a.png", "a.png"),
        ("sub\\b.png", "sub/b.png"),
        (normalize("NFD", "caf\u00e9.png"), "caf\u00e9.png"),
        ("HTTPS://example.org/x/a.png", "a.png"),
        ("file://{folder}/c%20d.png", "c d.png"),
        (["a.png"], "a.png"),
    ],
)
def test_a_name_of_another_system_is_found(cell: Any, name: str, folder: Path) -> None:
    if isinstance(cell, str):
        cell = cell.format(folder=folder)
    assert names(folder, [cell]) == [str(folder / name)]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("A.PNG", "(there is {folder}/a.png, with other capitals)"),
        ("a.jpg", "(there is {folder}/a.png, with another ending)"),
        ("a.png;sub/b.png", "(a.png;sub/b.png names 2 images: write a.png | sub/b.png)"),
        ("a.png, sub/b.png", "names 2 images: write a.png | sub/b.png)"),
        ("lost.png", "({folder}/lost.png is a link to gone.png, which leads to no file)"),
        ("self.png", "({folder}/self.png is a link to self.png, which leads to no file)"),
        (".", "is missing: . (line 1); looked in"),  # a folder is no image
    ],
)
def test_a_missing_image_is_told_by_what_is_there(cell: str, said: str, folder: Path) -> None:
    for name, aim in (("lost.png", "gone.png"), ("self.png", "self.png")):
        (folder / name).symlink_to(aim)
    with one_sentence("1 of the 1 images", said.format(folder=folder)):
        names(folder, [cell])
