"""Tables in the encodings that spreadsheets and systems write."""

import json
from pathlib import Path

import pytest

from tasks.base import Source
from tasks.registry import get_task
from tasks.table_reading import TableReading
from tasks.tables import read_rows
from tests.helpers import one_sentence
from tests.own_formats import write_csv, write_table

COLUMNS = {"image": ("image",), "answer": ("answer",)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_needs_no_option(encoding: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, encoding)
    assert read_rows(path, COLUMNS)[0] == (2, {"image": "0.png", "answer": "색 red"})


def test_big_endian_with_its_mark_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xfe\xff" + "image,answer\na.png,색\n".encode("utf-16-be"))
    assert read_rows(path, COLUMNS) == [(2, {"image": "a.png", "answer": "색"})]


@pytest.mark.parametrize("encoding", ["cp949", "utf-16-le", "utf-16-be"])
def test_an_encoding_that_is_named_is_read(encoding: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, encoding)
    assert read_rows(path, COLUMNS, encoding=encoding)[3][1]["answer"] == "색 white"


def test_a_mark_wins_over_the_named_encoding(tmp_path: Path) -> None:
    path = write_table(tmp_path, "utf-8-sig")
    assert read_rows(path, COLUMNS, encoding="cp949")[0][1]["answer"] == "색 red"


def test_another_encoding_is_named_with_the_line_and_what_it_reads(tmp_path: Path) -> None:
    path = write_table(tmp_path, "cp949")
    with one_sentence("t.csv, line 2 is not UTF-8", "cp949 ('무슨 색?')", "--encoding cp949"):
        read_rows(path, COLUMNS)
    path = write_csv(tmp_path / "f.csv", [("image", "answer"), ("a", "b"), ("c", "été")], "cp1252")
    with one_sentence("f.csv, line 3 is not UTF-8", "cp1252 ('été')", "--encoding cp1252"):
        read_rows(path, COLUMNS)


def test_utf_16_without_a_mark_is_recognised(tmp_path: Path) -> None:
    with one_sentence("not UTF-8 but most likely utf-16-le; pass --encoding utf-16-le"):
        read_rows(write_table(tmp_path, "utf-16-le"), COLUMNS)


def test_a_named_encoding_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [("image", "answer"), ("a", "été")], "cp1252")
    with one_sentence("t.csv, line 2 is not cp949", "--encoding"):
        read_rows(path, COLUMNS, encoding="cp949")


def test_a_table_that_is_utf_8_too_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "t.csv", [("image", "answer"), ("a", "été")], "utf-8")
    read_rows(path, COLUMNS, encoding="cp1252")
    assert "t.csv can be read as cp1252 and as UTF-8 too" in caplog.text


def test_json_lines_are_decoded_likewise(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    text = json.dumps({"image": "a.png", "answer": "색"}, ensure_ascii=False)
    path.write_bytes(f"{text}\n{text}\n".encode("cp949"))
    with one_sentence("t.jsonl, line 1 is not UTF-8", "cp949 ('색"):
        read_rows(path, COLUMNS)
    assert [row["answer"] for _, row in read_rows(path, COLUMNS, encoding="cp949")] == ["색", "색"]
    path.write_bytes(text.encode("utf-16"))
    assert read_rows(path, COLUMNS) == [(1, {"image": "a.png", "answer": "색"})]


def test_labels_and_messages_of_frames_are_decoded_likewise(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write_table(folder, "utf-8")
    labels = [("file", "count", "room"), *((f"{n}.png", str(n), "식당") for n in range(4))]
    write_csv(tmp_path / "labels.csv", labels, "cp949")
    talk = "user: {room}에 몇 명?\nassistant: {count}명\n"
    (tmp_path / "messages.txt").write_bytes(talk.encode("cp949"))
    task = get_task("frames_chat")
    source = Source(own_files={"frames": folder}, reading=TableReading(encoding="cp949"))
    assert task.load("train", source)[0].turns[0].text == "식당에 몇 명?"
    with one_sentence("messages.txt, line 1 is not UTF-8", "--encoding cp949"):
        task.load("train", Source(own_files={"frames": folder}))
