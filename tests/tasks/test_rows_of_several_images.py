"""Rows of several images, from every source: which images, in which order, and where they stand."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from tasks.base import Dataset, Example, Source
from tasks.images import check_dataset
from tasks.registry import get_task
from tasks.usable import check_split
from tests.helpers import one_sentence
from tests.tasks.test_webdataset import write_tar

WIDTHS = {"a.png": 3, "b.png": 4, "c.png": 5}  # by which the images are told apart
CSV, TALKS = get_task("csv_qa"), get_task("conversations")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, width in WIDTHS.items():
        Image.new("RGB", (width, 2)).save(tmp_path / name)
    return tmp_path


def names(example: Example) -> list[str]:
    widths = {width: name for name, width in WIDTHS.items()}
    return [widths[image.dimensions()[0]] for image in example.images]


def read_table(folder: Path, header: list[str], *rows: list[str], **source: Any) -> Dataset:
    path = folder / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return CSV.load("train", Source(tables={"train": path}, **source))


def read_talk(folder: Path, *records: dict[str, Any]) -> Dataset:
    path = folder / "talk.json"
    path.write_text(json.dumps(list(records)))
    return TALKS.load("train", Source(tables={"train": path}))


def talk(*texts: str, **beside: Any) -> dict[str, Any]:
    """A record whose turns are the user's and the assistant's by turns."""
    roles = ("human", "gpt") * len(texts)
    turns = [{"from": role, "value": text} for role, text in zip(roles, texts, strict=False)]
    return {"conversations": turns, **beside}


# --- tables

HEADER = ["image", "instruction", "response"]


@pytest.mark.parametrize(
    "cell", ["b.png|a.png", "b.png | a.png", '["b.png", "a.png"]', "['b.png', 'a.png']"]
)
def test_a_cell_names_several_images_in_their_order(folder: Path, cell: str) -> None:
    dataset = read_table(folder, HEADER, [cell, "which?", "x"], ["c.png", "this?", "y"])
    assert [names(example) for example in dataset] == [["b.png", "a.png"], ["c.png"]]
    assert dataset[0].turns[0].text == "which?" and not dataset[0].turns[0].places
    check_dataset(dataset)


def test_several_columns_are_a_row_s_images_without_the_empty_cells(folder: Path) -> None:
    header = ["left", "right", "query", "response"]
    rows = [["b.png", "a.png", "which?", "x"], ["c.png", "", "this?", "y"]]
    columns = {"image": "left|right"}
    dataset = read_table(folder, header, *rows, columns=columns)
    assert [names(example) for example in dataset] == [["b.png", "a.png"], ["c.png"]]
    with one_sentence("no column 'middle'", "--image_column"):
        read_table(folder, header, *rows, columns={"image": "left|middle"})
    with one_sentence("line 2, column of the image is empty"):
        read_table(folder, header, ["", "", "which?", "x"], columns=columns)


@pytest.mark.parametrize("key", ["image", "images", "file_names"])
def test_metadata_of_an_image_folder_may_list_files(folder: Path, key: str) -> None:
    row = {key: ["c.png", "a.png"], "instruction": "which?", "response": "x"}
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    (example,) = CSV.load("train", Source(tables={"train": folder}))
    assert names(example) == ["c.png", "a.png"]


def test_marks_in_a_question_about_several_images_are_their_places(folder: Path) -> None:
    cell, question = "a.png|b.png", "Is <image> or <image> wider?"
    (example,) = read_table(folder, HEADER, [cell, question, "b"])
    (turn,) = example.turns
    assert (turn.text, turn.places) == ("Is  or  wider?", (3, 7))
    with one_sentence("line 2 has 1 mark(s) <image> and 2 images; write one mark for each"):
        read_table(folder, HEADER, [cell, "Is <image> wider?", "b"])


def test_a_mark_in_a_question_about_one_image_is_text(folder: Path) -> None:
    (example,) = read_table(folder, HEADER, ["a.png", "what is an <image>?", "x"])
    assert example.turns[0].text == "what is an <image>?" and not example.turns[0].places


def test_a_missing_one_of_several_is_named(folder: Path) -> None:
    with one_sentence("1 of the 2 images", "no.png"):
        read_table(folder, HEADER, ["a.png|no.png", "which?", "x"])


def test_a_row_with_two_bad_images_is_one_fault(folder: Path) -> None:
    for name in ("bad.png", "worse.png"):
        (folder / name).write_bytes(b"no image")
    path = folder / "t.csv"
    path.write_text("image,instruction,response\nbad.png|worse.png,?,x\na.png|b.png,?,y\n")
    usable, faults = check_split(CSV, "train", Source(tables={"train": path}))
    assert [example.example_id for example in usable] == [3]
    assert [(fault.id, Path(fault.file).name) for fault in faults] == [(2, "bad.png")]


# --- shards and data sets


def image_bytes(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTHS[name], 2)).save(buffer, "png")
    return buffer.getvalue()


def test_images_of_a_sample_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    text = json.dumps({"instruction": "which?", "response": "x"}).encode()
    files = {"7.10.png": image_bytes("c.png"), "7.9.png": image_bytes("a.png"), "7.json": text}
    path = write_tar(tmp_path / "t.tar", files)
    (example,) = CSV.load("train", Source(tables={"train": path}))
    assert names(example) == ["a.png", "c.png"]
    files = {"7.left.png": image_bytes("c.png"), "7.right.png": image_bytes("a.png"), "7.txt": b"x"}
    with one_sentence("sample 7 has 2 images", "several with numbers, as in 42.0.jpg"):
        CSV.load("train", Source(tables={"train": write_tar(tmp_path / "u.tar", files)}))


def save_data_set(folder: Path, **columns: list[Any]) -> Source:
    kinds = {
        name: datasets.List(datasets.Image()) if isinstance(cells[0], list) else datasets.Image()
        for name, cells in columns.items()
    }
    texts = {name: datasets.Value("string") for name in ("instruction", "response")}
    rows = {**columns, "instruction": ["which?"] * 2, "response": ["x"] * 2}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({**kinds, **texts}))
    datasets.DatasetDict({"train": table}).save_to_disk(str(folder / "saved"))
    return Source(data_root=folder / "saved")


def test_a_column_of_lists_of_images_is_read_from_a_data_set(folder: Path) -> None:
    a, b, c = (str(folder / name) for name in WIDTHS)
    source = save_data_set(folder, images=[[b, a], [c]])
    dataset = CSV.load("train", source)
    assert [names(example) for example in dataset] == [["b.png", "a.png"], ["c.png"]]
    assert dataset[0].images[1].open().size == (3, 2)


def test_two_columns_of_a_data_set_are_a_row_s_images(folder: Path) -> None:
    a, b, c = (str(folder / name) for name in WIDTHS)
    source = save_data_set(folder, left=[b, c], right=[a, a])
    named = Source(data_root=source.data_root, columns={"image": "left|right"})
    dataset = CSV.load("train", named)
    assert [names(example) for example in dataset] == [["b.png", "a.png"], ["c.png", "a.png"]]
    with one_sentence("no column 'middle'"):
        CSV.load("train", Source(data_root=source.data_root, columns={"image": "left|middle"}))


# --- conversations


def places(example: Example) -> list[tuple[str, tuple[int, ...]]]:
    return [(turn.text, turn.places) for turn in example.turns]


def test_marks_say_where_the_images_of_a_conversation_stand(folder: Path) -> None:
    (example,) = read_talk(
        folder,
        talk("First: <image>\nThen: <image> Same?", "no", "<image>\nAnd this?", "yes",
             images=["c.png", "a.png", "b.png"]),
    )  # fmt: skip
    assert names(example) == ["c.png", "a.png", "b.png"]
    assert places(example) == [
        ("First: \nThen:  Same?", (7, 14)),  # "First: " has 7 characters, "\nThen: " as many
        ("no", ()),
        ("And this?", (0,)),
    ]


def test_white_space_at_marks_in_front_and_behind_is_the_layout_s(folder: Path) -> None:
    in_front, behind = read_talk(
        folder,
        talk("<image>\n<image>\nSame?", "no", images=["a.png", "b.png"]),
        talk("Same? <image> <image>", "no", images=["a.png", "b.png"]),
    )
    assert places(in_front) == [("Same?", (0, 0))]
    assert places(behind) == [("Same?", (5, 5))]


def test_images_that_nothing_marks_stand_before_the_first_question(folder: Path) -> None:
    (example,) = read_talk(folder, talk("Same?", "no", "Sure?", "yes", images=["b.png", "a.png"]))
    assert names(example) == ["b.png", "a.png"]
    assert places(example) == [("Same?", (0, 0)), ("no", ()), ("Sure?", ())]


def test_parts_of_a_message_show_images_between_texts(folder: Path) -> None:
    parts = [
        {"type": "text", "text": "Is "},
        {"type": "image", "image": "b.png"},
        {"type": "text", "text": " like "},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "text", "text": "?"},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "no"}]
    (example,) = read_talk(folder, {"messages": turns})
    assert names(example) == ["b.png", "a.png"]
    assert places(example) == [("Is  like ?", (3, 9))]


def test_a_single_image_may_stand_in_a_later_turn(folder: Path) -> None:
    (example,) = read_talk(folder, talk("Hello", "Hi", "<image>What?", "x", image="b.png"))
    assert names(example) == ["b.png"]
    assert places(example) == [("Hello", ()), ("Hi", ()), ("What?", (0,))]


@pytest.mark.parametrize(("marks", "number"), [("<image>", 2), ("<image><image><image>", 2)])
def test_other_marks_than_images_are_refused_with_the_row(
    folder: Path, marks: str, number: int
) -> None:
    record = talk(f"{marks}Same?", "no", images=list(WIDTHS)[:number])
    with one_sentence(
        f"element 2 has {marks.count('<')} mark(s) <image> and {number} image(s) beside"
    ):
        read_talk(folder, talk("<image>x", "y", image="a.png"), record)
