"""Image folders with metadata, as `datasets` documents them, and captions without questions."""

from pathlib import Path

import pytest

from tasks.base import MissingSplit, Source
from tasks.registry import get_task
from tasks.table_reading import TableReading
from tests.helpers import one_sentence
from tests.own_formats import write_csv, write_image_folder, write_images

TASK = get_task("csv_qa")
ASKED = TableReading(question="Describe it.")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_metadata_of_each_split_is_its_table(suffix: str, tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path, ("train", "validation"), suffix)
    for split, place in (("train", "train"), ("val", "validation")):
        data = TASK.load(split, Source(data_root=folder, reading=ASKED))
        assert [e.image.name for e in data] == [str(folder / place / f"{n}.png") for n in range(4)]
        assert data[1].references == ("a green picture",)
        assert data[1].turns[0].text == "Describe it."
    with pytest.raises(MissingSplit, match=r"looked for test\.csv, .*test/metadata\.csv"):
        TASK.load("test", Source(data_root=folder, reading=ASKED))


def test_metadata_beside_the_images_is_the_training_split(tmp_path: Path) -> None:
    write_images(tmp_path)
    rows = [("file_name", "question", "answer"), ("3.png", "which?", "white")]
    write_csv(tmp_path / "metadata.csv", rows, "utf-8")
    (example,) = get_task("image_qa").load("train", Source(data_root=tmp_path))
    assert example.image.name == str(tmp_path / "3.png")
    assert example.references == ("white",)
    with pytest.raises(MissingSplit):
        get_task("image_qa").load("test", Source(data_root=tmp_path))


def test_a_folder_may_be_named_in_place_of_a_table(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path, ("here",)) / "here"
    assert len(TASK.load("train", Source(tables={"train": folder}, reading=ASKED))) == 4
    (tmp_path / "empty").mkdir()
    with one_sentence("The folder", "empty holds no table", "metadata.csv"):
        TASK.load("train", Source(tables={"train": tmp_path / "empty"}))


def test_captions_without_a_question_say_what_is_missing(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path, ("train",))
    with one_sentence("no column 'instruction' or 'query' or", "or pass --question"):
        TASK.load("train", Source(data_root=folder))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path, ("train",))
    (folder / "train/2.png").unlink()
    with one_sentence("1 of the 4 images", "train/metadata.csv", "2.png"):
        TASK.load("train", Source(data_root=folder, reading=ASKED))


def test_a_question_is_for_tables_without_one_and_else_said_to_be_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path)
    rows = [("image", "query", "annotation"), ("0.png", "which?", "red")]
    path = write_csv(tmp_path / "t.csv", rows, "utf-8")
    (example,) = TASK.load("train", Source(tables={"train": path}, reading=ASKED))
    assert example.turns[0].text == "which?"
    assert "t.csv has a column of instructions, so --question is not asked" in caplog.text


def test_images_without_a_row_in_the_metadata_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "train")  # 0.png to 3.png
    rows = [("file_name", "caption"), ("1.png", "a"), ("./3.png", "b")]
    write_csv(tmp_path / "train/metadata.csv", rows, "utf-8")
    monkeypatch.chdir(tmp_path)
    for root in (Path(), tmp_path):
        caplog.clear()
        assert len(TASK.load("train", Source(data_root=root, reading=ASKED))) == 2
        assert "has no row for 2 of the 4 images beside it: 0.png, 2.png; they" in caplog.text


def test_where_each_image_has_a_row_or_none_is_needed_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_image_folder(tmp_path, ["train"])
    TASK.load("train", Source(data_root=folder, reading=ASKED))
    (folder / "train/4.png").write_bytes(b"")
    TASK.load("train", Source(data_root=folder, reading=ASKED, with_images=False))
    (folder / "train/metadata.csv").rename(folder / "train/a.csv")  # a table of some images
    tables = {"train": folder / "train/a.csv"}
    TASK.load("train", Source(tables=tables, reading=ASKED))
    assert caplog.text == ""
