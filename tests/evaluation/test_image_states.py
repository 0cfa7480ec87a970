"""Data and answers are told apart by their images: other files are other data."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import evaluation.run
from evaluation.image_states import files_hash
from evaluation.provenance import describe_data
from models.base import Family
from tasks.base import Example, ImageRef, Turn
from tasks.images import BytesImage, DatasetImage, FileImage
from tasks.webdataset import TarImage
from tests.helpers import sentence
from tests.palitune.commands import run


def data_hash(images: Sequence[ImageRef]) -> str:
    examples = [
        Example(example_id=number, image=image, turns=(Turn("user", "what?"),), references=())
        for number, image in enumerate(images)
    ]
    return str(describe_data("val", examples)["fingerprint"])


def write_images(folder: Path, *colors: str) -> list[ImageRef]:
    folder.mkdir(exist_ok=True)
    for number, color in enumerate(colors):
        Image.new("RGB", (40, 30), color).save(folder / f"{number}.bmp")  # all of one size
    return [FileImage(str(folder / f"{number}.bmp")) for number in range(len(colors))]


def test_a_copied_folder_is_the_same_data(tmp_path: Path) -> None:
    images = write_images(tmp_path / "a", "red", "blue")
    before = data_hash(images)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b/0.bmp", (1, 1))
    assert data_hash([FileImage(str(tmp_path / "b" / f"{n}.bmp")) for n in range(2)]) == before


def test_images_of_other_names_or_sizes_are_other_data(tmp_path: Path) -> None:
    red, blue = write_images(tmp_path / "a", "red", "blue")
    before = data_hash([red, blue])
    assert data_hash([blue, red]) != before
    with open(tmp_path / "a/1.bmp", "ab") as file:
        file.write(b"!")
    longer = data_hash([red, blue])
    os.remove(tmp_path / "a/1.bmp")
    assert len({before, longer, data_hash([red, blue])}) == 3


def test_images_inside_other_files_count_too(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"one")

    class Table:
        cache_files = ({"filename": str(shard)},)

    table = DatasetImage(Table(), "image", "table", 0)
    inside: list[ImageRef] = [TarImage(str(shard), "1.jpg", 0, 3), table]
    before = [data_hash([image]) for image in inside]
    shard.write_bytes(b"longer")
    after = [data_hash([image]) for image in inside]
    assert before[0] != after[0] and before[1] != after[1]
    one, other = (BytesImage(content, "line 1") for content in (b"123", b"456"))
    assert data_hash([one]) != data_hash([other])


def test_images_at_other_places_of_the_texts_are_other_data(tmp_path: Path) -> None:
    red, blue = write_images(tmp_path, "red", "blue")

    def placed(first: tuple[int, ...], last: tuple[int, ...]) -> str:
        example = Example(
            example_id=1,
            image=red,
            further_images=(blue,),
            turns=(Turn("user", "a or b?", first), Turn("user", "why?", last)),
            references=(),
        )
        return str(describe_data("val", [example])["fingerprint"])

    assert len({placed((0, 0), ()), placed((0, 5), ()), placed((0,), (0,)), placed((), ())}) == 4


def test_each_file_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = write_images(tmp_path / "a", "red")
    asked, stat = [], os.stat
    monkeypatch.setattr(
        "evaluation.image_states.os.stat", lambda file: asked.append(file) or stat(file)
    )
    data_hash([image] * 5)
    assert asked == [image.name]


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Leave two answers about a/0.bmp and a/1.bmp in out; return the command but for its images."""
    write_images(folder / "a", "red", "blue")
    table = folder / "t.csv"
    table.write_text("image,instruction\n0.bmp,what?\n1.bmp,what?\n")
    asked = ("--task", "csv_qa", "--csv", table, "--model_path", "tiny", "--batch_size", "1")
    command = (*asked, "--output_dir", folder / "out", "--data_root")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.run, "score", lambda _: sys.exit(9))
        run("eval", *command, folder / "a", exit_code=9)
    monkeypatch.setattr(Family, "generate", lambda *_: pytest.fail("it was asked again"))
    return command


@pytest.mark.parametrize("folder", ["a", "b"])
def test_answers_that_were_given_for_other_images_are_not_gone_on_with(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = interrupted(tmp_path, monkeypatch)
    (log,) = (tmp_path / "out").glob(".answers-*")
    answers = log.read_bytes()
    write_images(tmp_path / folder, "green", "white")  # of the same names and sizes
    os.utime(tmp_path / folder / "0.bmp", ns=(1, 1))
    result = run("eval", *command, tmp_path / folder, "--resume", exit_code=2)
    error = sentence(result.exit_code, result.output)
    assert "answers of an evaluation with image files of another place or time: resume" in error
    assert log.read_bytes() == answers


def test_answers_for_the_same_images_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = interrupted(tmp_path, monkeypatch)
    assert "2 answers" in run("eval", *command, tmp_path / "a", "--resume").output


def test_names_that_are_no_unicode_are_hashed() -> None:
    examples = [
        Example(
            example_id=1,
            image=FileImage("none/\udcff.jpg"),
            further_images=(BytesImage(b"1", "\ud800"),),
            turns=(Turn("user", ""),),
            references=(),
        )
    ]
    assert len(files_hash(examples)) == 16
