"""`palitune split`: no image is in two parts, no row is lost, and files of the user are kept."""

import csv
from pathlib import Path

import pytest
from pyarrow import Table
from pyarrow.parquet import read_table, write_table

from tests.helpers import sentence
from tests.palitune.commands import run_command as run

NUM_IMAGES, NUM_EACH = 20, 3


def rows() -> list[dict[str, str]]:
    return [
        {"photo": f"{image}.jpg", "question": f"{number}; or\nwhat?", "label": "red"}
        for number in range(NUM_EACH)
        for image in range(NUM_IMAGES)
    ]


def write(path: Path, encoding: str = "utf-8") -> Path:
    if path.suffix == ".parquet":
        write_table(Table.from_pylist(rows()), path)
        return path
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, ["photo", "question", "label"], delimiter=";")
        writer.writeheader()
        writer.writerows(rows())
    return path


def read(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".parquet":
        return list(read_table(path).to_pylist())
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";"))


@pytest.mark.parametrize(
    ("name", "encoding"), [("t.csv", "utf-8"), ("t.csv", "utf-16"), ("t.parquet", "utf-8")]
)
def test_each_row_is_in_one_part_and_so_is_each_image(
    name: str, encoding: str, tmp_path: Path
) -> None:
    table = write(tmp_path / name, encoding)
    result = run("split", table, "--test", 0.2, "--val", 0.1)
    parts = {part: read(table.with_stem(f"t_{part}")) for part in ("train", "test", "val")}
    # 60 rows of 20 images, three each: 12 rows are 4 images, 6 rows are 2
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 42,
        "test": 12,
        "val": 6,
    }
    images = {part: {row["photo"] for row in found} for part, found in parts.items()}
    assert {part: len(found) for part, found in images.items()} == {
        "train": 14,
        "test": 4,
        "val": 2,
    }
    assert len(set.union(*images.values())) == NUM_IMAGES
    assert sorted(str(row) for found in parts.values() for row in found) == sorted(map(str, rows()))
    order = [rows().index(row) for row in parts["train"]]
    assert order == sorted(order)
    assert f"{table.with_stem('t_test')}: 12 rows, 4 images" in result.output


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    found = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / place).mkdir()
        run("split", write(tmp_path / place / "t.csv"), "--seed", seed)
        found.append((tmp_path / place / "t_test.csv").read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--test", 0), "must hold out something"),
        (("--test", 0.6, "--val", 0.4), "leave something to train on"),
        (("--image_column", "foto"), "no column 'foto' (did you mean photo?)"),
        (("--test", 0.99), "too few for a part train"),
    ],
)
def test_what_cannot_be_split_is_one_sentence(
    words: tuple[object, ...], expected: str, tmp_path: Path
) -> None:
    table = write(tmp_path / "t.csv")
    result = run("split", table, *words, exit_code=2)
    assert expected in sentence(result.exit_code, result.output)
    assert list(tmp_path.iterdir()) == [table]


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv")
    (tmp_path / "t_test.csv").write_text("mine")
    result = run("split", table, exit_code=2)
    assert "t_test.csv is there already" in sentence(result.exit_code, result.output)
    assert (tmp_path / "t_test.csv").read_text() == "mine"
    assert not (tmp_path / "t_train.csv").exists()


def test_the_column_of_images_may_have_any_name(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv")
    table.write_text(table.read_text().replace("photo;question;label", "Bild;Frage;Antwort"))
    result = run("split", table)
    assert "Images are in the column Bild, as its cells tell." in result.output
    assert "t_test.csv: 12 rows, 4 images" in result.output
    assert f" inspect {tmp_path / 't_train.csv'}" in result.output
