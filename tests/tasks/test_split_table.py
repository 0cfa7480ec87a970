"""`palitune split`: no image is in two parts, no row is lost, and files of the user are kept."""

import csv
import json
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


@pytest.mark.parametrize("is_quoted", [True, False])
def test_rows_that_share_an_image_stay_together_however_it_is_written(
    is_quoted: bool, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/f.png").touch()
    pairs = ("a.png|b.png", "b.png|c.png", "d.png|e.png", "f.png|g.png")
    if is_quoted:
        pairs = tuple(json.dumps(pair.split("|")) for pair in pairs)
    single = ("./c.png", "i/.././e.png", "images/f.png", "h.png", "i/../h.png")
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image"], *([cell] for cell in (*pairs, *single))])
    # they are a b c, d e, f g and h: of 3, 2, 2 and 2 rows
    groups = [{0, 1, 4}, {2, 5}, {3, 6}, {7, 8}]
    cells = [*pairs, *single]
    shares = ("--test", 0.25, "--val", 0.25)
    seen = set()
    for seed in range(8):
        output = run("split", path, *shares, "--seed", seed).output
        parts = {}
        for part in ("train", "test", "val"):
            file_of = path.with_stem(f"t_{part}")
            with file_of.open(newline="", encoding="utf-8") as file:
                parts[part] = {cells.index(row["image"]) for row in csv.DictReader(file)}
            file_of.unlink()
        assert sorted(row for found in parts.values() for row in found) == list(range(9))
        for group in groups:
            assert any(group <= found for found in parts.values()), parts
        seen.add(frozenset(parts["test"]))
        num_images = sum(3 if 0 in g else 1 if 7 in g else 2 for g in groups if g <= parts["test"])
        assert f"t_test.csv: {len(parts['test'])} rows, {num_images} images" in output
    assert len(seen) > 1


def test_images_of_several_columns_are_joined_too(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    # by `before` alone each row could be dealt out by itself; with `after` two chains are left
    rows = ("a,b", "b,c", "c,", "x,y", "y,z", "z,")
    path.write_text("\n".join(["before,after", *rows]) + "\n")
    run("split", path, "--test", 0.5, "--image_column", "before", "--image_column", "after")
    found = {
        part: path.with_stem(f"t_{part}").read_text().split()[1:] for part in ("train", "test")
    }
    assert sorted(found.values()) == [list(rows[:3]), list(rows[3:])]


def test_images_in_the_table_itself_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [{"bytes": name, "path": str(n)} for n, name in enumerate((b"a", b"b", b"a", b"b"))]
    write_table(
        Table.from_pylist([{"image": image, "n": n} for n, image in enumerate(images)]), path
    )
    run("split", path, "--test", 0.5)
    found = [[row["n"] for row in read(path.with_stem(f"t_{part}"))] for part in ("train", "test")]
    assert sorted(found) == [[0, 2], [1, 3]]


def test_a_share_that_cannot_be_met_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image\n" + "a\n" * 10 + "b\n" * 10)
    output = run("split", path, "--test", 0.2).output
    assert "t_test.csv has 10 rows where about 4 were asked for: " in output
    assert "a group of 10 of the 20 rows" in output
    path.write_text("image\na|b\nb|c\n")
    for part in ("train", "test"):
        path.with_stem(f"t_{part}").unlink()
    result = run("split", path, exit_code=2)
    assert "1 group(s) of rows that share no image" in sentence(result.exit_code, result.output)
    assert list(tmp_path.iterdir()) == [path]
