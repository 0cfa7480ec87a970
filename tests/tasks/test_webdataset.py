"""WebDataset shards: samples by key, images read from their place, faults by shard and key."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.base import MissingSplit, Source
from tasks.faults import Fault
from tasks.registry import get_task
from tasks.table_files import open_table
from tasks.table_reading import TableReading
from tasks.usable import check_split
from tasks.webdataset import TarImage, read_samples
from tests.helpers import one_sentence
from tests.own_formats import COLORS, image_bytes, write_shards, write_tar

TASK = get_task("image_qa")
PNG = image_bytes("red")


@pytest.mark.parametrize("name", ["train-{000..001}.tar", "."])
def test_samples_of_all_shards_are_the_examples(name: str, tmp_path: Path) -> None:
    path = write_shards(tmp_path) / name
    data = TASK.load("train", Source(tables={"train": path}))
    assert [e.example_id for e in data] == [1, 2, 3, 4]
    assert [e.references for e in data] == [(color,) for color in COLORS]
    assert data[2].turns[0].text == "which colour?"
    assert data[2].image.name == f"{tmp_path}/train-001.tar/000002.png"


def test_an_image_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    write_shards(tmp_path)
    for example, color in zip(TASK.load("train", Source(data_root=tmp_path)), COLORS, strict=True):
        image = pickle.loads(pickle.dumps(example.image))  # as worker processes get it
        assert isinstance(image, TarImage) and image == example.image
        assert image.content() == image_bytes(color)
        assert image.open().getpixel((0, 0)) == Image.new("RGB", (1, 1), color).getpixel((0, 0))
        assert image.dimensions() == (24, 16)


def test_splits_are_told_by_the_names_of_shards_or_folders(tmp_path: Path) -> None:
    write_shards(tmp_path / "a", "train")
    write_shards(tmp_path / "a", "val")
    write_shards(tmp_path / "b/test", "x")
    assert TASK.load("val", Source(data_root=tmp_path / "a"))[0].image.name.endswith(
        "val-000.tar/000000.png"
    )
    assert len(TASK.load("test", Source(data_root=tmp_path / "b"))) == 4
    with pytest.raises(MissingSplit, match=r"test\*\.tar"):
        TASK.load("test", Source(data_root=tmp_path / "a"))
    with one_sentence("holds shards of several splits", "--data_root"):
        open_table(tmp_path / "a")


def test_texts_beside_images_are_responses(tmp_path: Path) -> None:
    files = {"x/1.jpg": PNG, "x/1.txt": b"a red picture\n", "x/2.webp": PNG, "x/2.cls": b"7"}
    path = write_tar(tmp_path / "t.tar", files)
    source = Source(tables={"train": path}, reading=TableReading(question="Which?"))
    data = get_task("csv_qa").load("train", source)
    assert [(e.turns[0].text, e.references) for e in data] == [
        ("Which?", ("a red picture",)),
        ("Which?", ("7",)),
    ]


def test_files_of_a_sample_need_not_stand_together(tmp_path: Path) -> None:
    files = {"1.png": PNG, "2.png": PNG, "1.txt": b"a", "2.txt": b"b", "._1.png": b"", "note": b""}
    samples = list(read_samples([write_tar(tmp_path / "t.tar", files)], None))
    assert [(s.number, s.cells) for s in samples] == [(1, {"txt": "a"}), (2, {"txt": "b"})]


FAULTY: dict[str, tuple[dict[str, bytes], str]] = {
    "no image": ({"2.json": b"{}"}, "sample 2 has no image"),
    "two images": ({"2.png": PNG, "2.jpg": PNG, "2.txt": b"x"}, "sample 2 has 2 images"),
    "no text": ({"2.png": PNG}, "sample 2 has no text"),
    "damaged": ({"2.png": PNG, "2.json": b'{"a"'}, "sample 2: 2.json is not a JSON object"),
    "not UTF-8": ({"2.png": PNG, "2.txt": b"\xff"}, "sample 2: 2.txt is not UTF-8"),
    "no answer": (
        {"2.png": PNG, "2.json": b'{"question": "?", "anser": "x"}'},
        "sample 2 has no column 'answer' or 'txt' or 'cls' (did you mean anser?)",
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_sample_that_cannot_be_used_is_named_and_listed(name: str, tmp_path: Path) -> None:
    good = {f"{k}.{e}": c for k in (1, 3) for e, c in (("png", PNG), ("json", GOOD))}
    files, said = FAULTY[name]
    path = write_tar(tmp_path / "t.tar", {**dict(list(good.items())[:2]), **files, **good})
    source = Source(tables={"train": path})
    with one_sentence(f"{path}, {said}"):
        TASK.load("train", source)
    usable, faults = check_split(TASK, "train", source)
    assert [e.example_id for e in usable] == [1, 3]
    assert [(f.id, f.file) for f in faults] == [(2, str(path))] and said in faults[0].reason


GOOD = b'{"question": "?", "answer": "red"}'


def test_a_key_that_comes_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("1.png", "1.json", "1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(PNG)
            tar.addfile(member, io.BytesIO(PNG))
    with one_sentence(f"{path}, sample 1 has its .png twice"):
        list(read_samples([path], None))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_refused_and_not_followed(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    path = write_tar(tmp_path / "t.tar", {"1.txt": b"x"})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("1.png")
        member.type, member.linkname = kind, str(tmp_path / "secret.png")
        tar.addfile(member)
    with one_sentence("sample 1: 1.png is a link"):
        list(read_samples([path], None))


def test_a_name_that_leads_out_is_only_a_name(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(image_bytes("blue"))
    (tmp_path / "in").mkdir()
    path = write_tar(tmp_path / "in/t.tar", {"../1.png": PNG, "../1.txt": b"x"})
    (sample,) = read_samples([path], None)
    assert sample.images[0].content() == PNG


@pytest.mark.parametrize("cut", [100, 512, 1024, -8000, -9000, -9500])
def test_a_shard_that_is_cut_off_is_named(cut: int, tmp_path: Path) -> None:
    """10,240 bytes: a header and a block for each of two files, then empty blocks to the end."""
    path = write_tar(tmp_path / "t.tar", {"1.png": PNG, "1.json": GOOD})
    content = path.read_bytes()
    assert len(content) == 10_240 and len(PNG) < 512
    path.write_bytes(content[:cut])
    is_whole = len(content[:cut]) >= 4 * 512 + 512  # of the empty blocks one is left
    if is_whole:
        assert len(list(read_samples([path], None))) == 1
        return
    with one_sentence(str(path), "cut off"):
        list(read_samples([path], None))
    faults: list[Fault] = []
    assert not list(read_samples([path], faults))
    assert [(fault.id, fault.file) for fault in faults] == [("t.tar", str(path))]


def test_shards_behind_each_other_in_one_file_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", {"1.png": PNG, "1.json": GOOD})
    path.write_bytes(path.read_bytes() * 2)
    with one_sentence("has more behind its end"):
        list(read_samples([path], None))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t.tar.gz", "is compressed"),
        ("x{0..2}.tar", "2 of the 3 shard(s)"),
        ("no.tar", "1 of the 1 shard(s)"),
    ],
)
def test_a_shard_that_cannot_be_opened_is_named(name: str, said: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "x0.tar", {"1.png": PNG})
    with one_sentence(said):
        open_table(tmp_path / name)


def test_a_compressed_shard_under_a_plain_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("1.png"))
    with one_sentence("t.tar is no plain tar file", "unpack it where it is compressed"):
        list(read_samples([path], None))


def test_an_image_of_a_shard_that_has_shrunk_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", {"1.png": PNG, "1.json": GOOD})
    (sample,) = read_samples([path], None)
    path.write_bytes(path.read_bytes()[:520])
    image: Any = sample.images[0]
    with one_sentence("t.tar ends within 1.png"):
        image.open()


def test_shards_whose_numbers_go_down_are_refused(tmp_path: Path) -> None:
    with one_sentence("s-{002..000}.tar names no shard", "lower one first"):
        open_table(tmp_path / "s-{002..000}.tar")
