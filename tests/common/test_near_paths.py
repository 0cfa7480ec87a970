"""The nearest path to one that is not there."""

from pathlib import Path

import pytest

from common.near_paths import cannot_be_read, did_you_mean, near_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["runs/mine", "runs/t15", "parts_train.csv", "parts_test.csv", "a.csv", ".hidden"]
    names += [f"photos/part_{number:03}.jpg" for number in (1, 10, 100)] + ["photos/Dog.JPG"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("missing", "near"),
    [
        ("runs/mnie", "runs/mine"),
        ("./runs/mnie", "runs/mine"),
        ("rusn/mine", "runs/mine"),  # a folder is misspelt
        ("rusn/mnie", "runs/mine"),
        ("part_train.csv", "parts_train.csv"),
        ("parts_tset.csv", "parts_test.csv"),
        ("runs/t115", "runs/t15"),
        ("photos/part_1.jpg", "photos/part_001.jpg"),  # the number counts, not its noughts
        ("photos/part_010.jpeg", "photos/part_010.jpg"),
        ("photos/dog.jpg", "photos/Dog.JPG"),
        ("b.csv", None),  # the ending alone makes no name alike
        ("hidden.txt", None),
        ("runs/other", None),
        ("nowhere/mine", None),
        ("a.csv/x", None),
        ("a.csv", None),  # it is there
        ("", None),
    ],
)
def test_the_nearest_name_of_each_part_is_found(missing: str, near: str | None, here: Path) -> None:
    assert near_path(missing) == (None if near is None else Path(near))
    absolute = near_path(here / missing) if missing else None
    assert absolute == (None if near is None else here / near)


def test_another_of_a_series_is_no_misspelling_where_numbers_must_agree(here: Path) -> None:
    assert near_path("photos/part_011.jpg") is not None
    assert near_path("photos/part_011.jpg", same_numbers=True) is None
    near = near_path("photos/prat_010.jpg", same_numbers=True)
    assert near == Path("photos/part_010.jpg")


def test_a_sentence_ends_with_the_near_path_or_with_what_to_do(here: Path) -> None:
    assert did_you_mean("runs/mnie", "name a run") == "; did you mean runs/mine?"
    assert did_you_mean("runs/other", "name a run") == "; name a run."
    assert did_you_mean("runs/other") == "."


def test_what_may_not_be_opened_is_not_called_missing(here: Path) -> None:
    absent = FileNotFoundError(2, "No such file or directory")
    assert cannot_be_read("x/y", absent) == "x/y cannot be read: No such file or directory."
    refused = PermissionError(13, "Permission denied")
    assert cannot_be_read("runs/mnie", refused) == "runs/mnie cannot be read: Permission denied."
