"""Tables: what counts as a row, where it stands, and what is said of one that is wrong."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.tables import header_of, read_rows, write_csv
from tests.helpers import one_sentence

COLUMNS = {"image": ("image", "url"), "response": ("response", "annotation")}


def read(path: Path, content: str | bytes, *, lenient: bool = False) -> list[Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, COLUMNS, lenient=lenient)


def test_a_row_is_known_by_the_line_in_which_it_begins(tmp_path: Path) -> None:
    # line 1 names the columns, row 2 goes on in line 3, line 4 is blank
    rows = read(tmp_path / "t.csv", 'url,annotation\na.jpg,"one,\ntwo"\n\nb.jpg,"say ""hi"""\n')
    assert rows == [
        (2, {"image": "a.jpg", "response": "one,\ntwo"}),
        (5, {"image": "b.jpg", "response": 'say "hi"'}),
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_either_line_end_change_nothing(
    tmp_path: Path, line_end: str
) -> None:
    text = line_end.join(["image,response", "한.jpg,식당"])
    rows = read(tmp_path / "t.csv", b"\xef\xbb\xbf" + text.encode())
    assert rows == [(2, {"image": "한.jpg", "response": "식당"})]


def test_columns_are_found_in_any_order_and_others_are_left_out(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "note,annotation,url\nx,red,a.jpg\n")
    assert rows == [(2, {"image": "a.jpg", "response": "red"})]


UNQUOTED = "url,annotation\na.jpg,a table, two chairs, and a lamp\nb.jpg,red\nc.jpg,one, two\n"


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_signs_between_columns_are_read_where_the_header_has_them(
    sign: str, tmp_path: Path
) -> None:
    # the comma of the name stands in quotes, those of the texts do not count
    lines = ['"seen, when"', "url", "annotation"], ["1, 2", "a.jpg", "red, or so"]
    text = "".join(f"{sign.join(cells)}\n" for cells in lines)
    rows = read(tmp_path / "t.csv", text)
    assert [cells for _, cells in rows] == [{"image": "a.jpg", "response": "red, or so"}]
    with one_sentence("1 line(s): 3", "must stand in quotes"):
        read(tmp_path / "u.csv", text + sign.join("abcd") + "\n")


def test_a_header_with_a_comma_has_commas_between_its_columns(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "url,annotation,a;b;c\na.jpg,red;blue,x\n")
    assert [cells["response"] for _, cells in rows] == ["red;blue"]


def test_unquoted_commas_are_reported_with_their_lines(tmp_path: Path) -> None:
    with one_sentence("t.csv", "2 columns", "2 line(s): 2, 4", "--csv_lenient", "'annotation'"):
        read(tmp_path / "t.csv", UNQUOTED)


def test_lenient_joins_what_unquoted_commas_cut_in_the_last_column(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", UNQUOTED, lenient=True)
    texts = [cells["response"] for _, cells in rows]
    assert texts == ["a table, two chairs, and a lamp", "red", "one, two"]
    assert [cells["image"] for _, cells in rows] == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("url,annotation\na.jpg,red\nb.jpg\n", ("line 3 has 1 of the 2 columns",)),
        ("url,annotation\na.jpg,red\nb.jpg,\"blue\nc.jpg,x\n", ("line 3", "must be closed")),
        ('url,annotation\na.jpg,"red" one\n', ("line 2", "written twice")),
        (b"url,annotation\na.jpg,red\nb.jpg,\xff\n", ("line 3 is not UTF-8",)),
        ("url,annotation\n", ("has no rows",)),
        ("", ("is empty", "its first line must name the columns")),
        ("x;y\na;b\n", ("'image' or 'url' and no column 'response' or", "which ones are meant by")),
        ("url,annotations\na,b\n", ("'response' or 'annotation'", "did you mean annotations?")),
        ("imge,annotation\na,b\n", ("did you mean imge?", "--image_column")),
        ("url,annotation,url\na,b,c\n", ("has the column 'url' twice",)),
    ],
)  # fmt: skip
def test_a_csv_file_that_cannot_be_right_is_one_sentence(
    tmp_path: Path, content: str | bytes, parts: tuple[str, ...], lenient: bool
) -> None:
    with one_sentence("t.csv", *parts):
        read(tmp_path / "t.csv", content, lenient=lenient)


def test_json_lines_keep_lists_and_the_line_in_which_they_stand(tmp_path: Path) -> None:
    lines = ['{"url": "a.jpg", "annotation": ["red", "crimson"], "x": 1}', "", '{"annotation": 2,']
    lines[2] += ' "url": "b.jpg"}'
    assert read(tmp_path / "t.jsonl", "\n".join(lines)) == [
        (1, {"image": "a.jpg", "response": ["red", "crimson"]}),
        (3, {"image": "b.jpg", "response": 2}),
    ]


def test_a_key_that_a_json_line_lacks_is_an_empty_cell(tmp_path: Path) -> None:
    content = '{"b": 1}\n{"url": "a", "annotation": "x"}\n{"url": "b", "c": 2, "b": 3}\n'
    assert read(tmp_path / "t.jsonl", content) == [
        (1, {"image": None, "response": None}),
        (2, {"image": "a", "response": "x"}),
        (3, {"image": "b", "response": None}),
    ]
    assert header_of(tmp_path / "t.jsonl") == ["b", "url", "annotation", "c"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"url": "a", "annotation": "b"}\n{"url": 1\n', ("line 2 is not a JSON object",)),
        ("{}\n{}\n", ("no column 'image' or 'url'", "its columns are none")),
        ("[1]\n", ("line 1 is not a JSON object",)),
        ('{"url": "a", "annotated": "b"}', ("did you mean annotated?",)),
        ("\n", ("has no rows",)),
    ],
)
def test_json_lines_that_cannot_be_right_are_one_sentence(
    tmp_path: Path, content: str, parts: tuple[str, ...]
) -> None:
    with one_sentence("t.jsonl", *parts):
        read(tmp_path / "t.jsonl", content)


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_rows_count_from_one(tmp_path: Path) -> None:
    columns = {"annotation": ["red", "blue"], "other": [1, 2], "url": ["a.jpg", "b.jpg"]}
    path = write_parquet(tmp_path / "t.parquet", columns)
    assert read_rows(path, COLUMNS, lenient=False) == [
        (1, {"image": "a.jpg", "response": "red"}),
        (2, {"image": "b.jpg", "response": "blue"}),
    ]


def test_parquet_that_cannot_be_right_is_one_sentence(tmp_path: Path) -> None:
    with one_sentence("is no Parquet file"):
        read(tmp_path / "t.parquet", "url,annotation\n")
    with one_sentence("no column 'response' or 'annotation'", "did you mean annotations?"):
        path = write_parquet(tmp_path / "u.parquet", {"url": ["a"], "annotations": ["b"]})
        read_rows(path, COLUMNS, lenient=False)
    with one_sentence("no.parquet cannot be read: No such file"):
        read_rows(tmp_path / "no.parquet", COLUMNS, lenient=False)


def test_another_kind_of_file_lists_those_that_are_read(tmp_path: Path) -> None:
    with one_sentence("t.xlsx", ".csv or .tsv or .jsonl or .parquet"):
        read(tmp_path / "t.xlsx", "")


@pytest.mark.parametrize("text", ['one, "two"\nthree', "one\rtwo", "one\r\ntwo\r\n", "\n"])
def test_a_written_table_is_read_back_by_any_csv_reader(text: str) -> None:
    row = {"id": 3, "prediction": text, "references": ("식당", "a, b")}
    table = b"".join(write_csv([row])).decode()
    assert table.startswith("id,prediction,references\n3,") and table.endswith('"\n')
    (found,) = csv.DictReader(io.StringIO(table, newline=""))
    assert found["id"] == "3"
    assert found["prediction"] == row["prediction"]
    assert json.loads(found["references"]) == ["식당", "a, b"]


@pytest.mark.parametrize(
    ("header", "row", "speaks_for"),
    [
        ("Bild,Frage,Antwort", "a.png,Was?,rot", "--image_column Bild --instruction_column Frage "
         "--response_column Antwort."),
        ("image,Frage,Antwort", "a.png,Was?,rot", "--instruction_column Frage --response_column "
         "Antwort."),
        ("image,question,Die Antwort", "a.png,Was?,rot", "--response_column 'Die Antwort'."),
        ("image,question,x,y", "a.png,Was?,rot,b", None),  # either may answer
        ("x,y,z", "a,b,c", None),
        ("vorher,nachher,Frage,Antwort", "a.png,b.png,Was?,rot", "--instruction_column Frage "
         "--response_column Antwort, and say what is meant by --image_column."),
        ("Bild,Frage,Notiz", "a.png,Was?,", "--image_column Bild --instruction_column Frage, and "
         "say what is meant by --response_column."),
    ],
)  # fmt: skip
def test_columns_that_are_not_known_are_guessed_by_what_stands_in_them(
    header: str, row: str, speaks_for: str | None, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
    columns = {"image": ("image",), "instruction": ("question", "query"), "response": ("answer",)}
    with pytest.raises(ValueError, match="has no column") as raised:
        read_rows(tmp_path / "t.csv", columns)
    said = str(raised.value)
    assert ("what stands in them speaks for" in said) == (speaks_for is not None)
    assert speaks_for is None or said.endswith(speaks_for)
    assert "did you mean" not in said
