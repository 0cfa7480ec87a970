"""Scored examples that show an image of the training are counted aloud."""

import logging
from pathlib import Path

import pytest

from finetuning.training.job import load_data
from palitune.scripts import parse_job
from tests.own_formats import image_bytes, write_csv, write_tar


def write_table(folder: Path, images: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in images.replace("|", " ").split():
        (folder / f"{name}.png").write_bytes(image_bytes("red"))
    rows = [(cell.replace("|", ".png|") + ".png", "what?", "x") for cell in images.split()]
    header = ("image", "question", "answer")
    return write_csv(folder / f"{len(list(folder.iterdir()))}.csv", [header, *rows], "utf-8")


def said(train: object, test: object, caplog: pytest.LogCaptureFixture) -> str:
    words = ("--model_path", "tiny", "--train_csv", str(train), "--test_csv", str(test))
    job = parse_job("csv_qa", words)
    with caplog.at_level(logging.WARNING):
        load_data(job.tasks[0], job.recipe)
    return caplog.text


@pytest.mark.parametrize(
    ("test", "number"), [("1 2", "2 of the 2"), ("2 3 4|1", "2 of the 3"), ("3 4", "")]
)
def test_images_of_both_tables_are_counted(
    test: str, number: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = said(write_table(tmp_path, "1 2"), write_table(tmp_path, test), caplog)
    wanted = f"{number} scored examples of csv_qa show images that are trained on"
    assert (wanted in text) if number else (text == "")


def test_a_folder_under_two_names_is_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = write_table(tmp_path / "a", "1 2")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    test = write_table(tmp_path / "b", "1")
    assert "1 of the 1 scored examples" in said(train, test, caplog)


def test_equal_names_in_two_folders_are_two_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = said(write_table(tmp_path / "a", "1 2"), write_table(tmp_path / "b", "1 2"), caplog)
    assert text == ""


def test_samples_of_one_shard_are_compared_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said_of_it = b'{"question": "what?", "answer": "x"}'
    shard = write_tar(tmp_path / "a-0.tar", {"1.png": image_bytes("red"), "1.json": said_of_it})
    assert "1 of the 1 scored" in said(tmp_path / "a-{0..0}.tar", shard, caplog)
