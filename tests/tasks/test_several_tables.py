"""Of several tables of one split the first is read, and the others are named."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.base import Source
from tasks.registry import get_task
from tests.own_formats import write_images, write_shards

ROW = "image,question,answer\n0.png,?,{}\n"
TALK = '{"image": "0.png", "messages": [{"role": "user", "content": "?"}]}'


def write(root: Path, names: Sequence[str]) -> Path:
    """Tables of the first image, each with its own name for an answer; and shards."""
    for name in names:
        path = root / name
        write_images(path.parent)
        if name.endswith(".jsonl"):
            path.write_text(f'{{"image": "0.png", "question": "?", "answer": "{name}"}}')
        elif name.endswith(".tar"):
            write_shards(path.parent, path.stem)
        else:
            path.write_text(ROW.format(name))
    return root


@pytest.mark.parametrize(
    ("split", "read", "left"),
    [
        ("train", "train.csv", ["train.jsonl", "train/metadata.csv", "metadata.csv"]),
        ("train", "train/metadata.csv", ["train/metadata.jsonl"]),
        ("val", "valid.csv", ["val.csv", "validation.csv"]),
        ("test", "test.csv", ["test-000.tar", "test-001.tar"]),
        ("train", "train.csv", []),
    ],
)
def test_tables_that_are_not_read_are_named_once(
    split: str, read: str, left: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, [read, *(name.replace("-000", "") for name in left if "-001" not in name)])
    for _ in range(2):
        (example,) = get_task("csv_qa").load(split, Source(data_root=tmp_path))
        assert example.references == (read,)
    names = ", ".join(str(tmp_path / name) for name in left)
    wanted = f"{tmp_path / read} is read, and {names} not; name the one meant by --{split}_csv"
    said = [message for message in caplog.messages if "is read, and" in message]
    assert [wanted in message for message in said] == [True] * bool(left)


def test_a_folder_that_is_named_may_hold_several_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, ["metadata.csv", "metadata.jsonl"])
    source = Source(tables={"test": tmp_path})
    assert get_task("csv_qa").load("test", source)[0].references == ("metadata.csv",)
    assert f"and {tmp_path / 'metadata.jsonl'} not; name the one meant" in caplog.text


def test_images_in_a_tar_file_beside_a_table_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, ["train.csv", "images.tar"])
    assert len(get_task("csv_qa").load("train", Source(data_root=tmp_path))) == 1
    assert caplog.text == ""


def test_files_of_conversations_are_named_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path)
    for name in ("test.json", "test.jsonl"):
        (tmp_path / name).write_text(TALK)
    get_task("conversations").load("test", Source(data_root=tmp_path))
    wanted = f"test.jsonl is read, and {tmp_path / 'test.json'} not; name the one meant by --test"
    assert wanted in caplog.text
