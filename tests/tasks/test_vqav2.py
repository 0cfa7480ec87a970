"""VQAv2: layouts, the join of its two files, percent per question."""

import json
from pathlib import Path

import msgspec
import pytest

from tasks.base import MissingSplit, Source
from tasks.registry import get_task
from tests.helpers import Load, one_sentence
from tests.official_files import VQAV2_LAYOUTS, color_of, write_vqav2

ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


@pytest.mark.parametrize("layout", VQAV2_LAYOUTS)
@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", [100000, 101000, 102000, 103000]),
        ("val", [500000, 501000, 502000]),
        ("test-dev", [900000]),
        ("test", [900000, 901000]),
    ],
)
def test_every_split_is_read_in_every_layout(
    tmp_path: Path, load: Load, layout: str, split: str, ids: list[int]
) -> None:
    dataset = load("vqav2", split, write_vqav2(tmp_path, layout))
    assert [example.example_id for example in dataset] == ids
    assert all(example.image.open().size == (24, 16) for example in dataset)


def test_questions_and_annotations_are_joined_by_id_not_by_position(
    tmp_path: Path, load: Load
) -> None:
    example = load("vqav2", "train", write_vqav2(tmp_path))[1]
    assert example.example_id == 101000
    green = color_of(101)
    assert example.references == ("pink", *[green] * 7, "dark", "dark")
    assert example.turns[0].text == "what color is the picture?"
    assert example.tags == {"answer_type": ("other",), "question_type": ("what color is the",)}


def test_a_question_without_annotation_is_named(tmp_path: Path, load: Load) -> None:
    path = write_vqav2(tmp_path) / ANNOTATIONS
    content = json.loads(path.read_text())
    content["annotations"].pop(0)
    path.write_text(json.dumps(content))
    with one_sentence("1 question(s) that the annotations file lacks: 502000"):
        load("vqav2", "val", tmp_path)


def test_questions_without_the_annotations_file_say_where_it_was_looked_for(
    tmp_path: Path, load: Load
) -> None:
    (write_vqav2(tmp_path) / ANNOTATIONS).unlink()
    with one_sentence(ANNOTATIONS, f"Annotations/{ANNOTATIONS}", kind=MissingSplit):
        load("vqav2", "val", tmp_path)


def test_hidden_splits_have_no_references(tmp_path: Path, load: Load) -> None:
    (example,) = load("vqav2", "test-dev", write_vqav2(tmp_path))
    assert example.references == ()
    assert example.image.name.endswith("test2015/COCO_test2015_000000000900.jpg")


def test_each_question_is_scored_in_percent_of_the_official_accuracy(
    tmp_path: Path, load: Load
) -> None:
    examples = list(load("vqav2", "val", write_vqav2(tmp_path)))
    # seven of ten agree: 100; one of ten: 30; two of ten: 60
    scores = get_task("vqav2").score([color_of(500), "pink", "dark"], examples)
    assert scores.values == pytest.approx([100, 30, 60])
    assert scores.metrics == {"vqa_accuracy": pytest.approx(190 / 3)}
    assert not scores.notes


def test_questions_without_ten_answers_are_counted_in_a_note(tmp_path: Path, load: Load) -> None:
    ten, one, two = load("vqav2", "val", write_vqav2(tmp_path))
    one = msgspec.structs.replace(one, references=("red",))
    two = msgspec.structs.replace(two, references=("red", "red"))
    scores = get_task("vqav2").score([color_of(500), "red", "red"], [ten, one, two])
    # one is left out of one, so that none is left: 0; two of two: each leaves one, a third
    assert scores.values == pytest.approx([100, 0, 100 / 3])
    (note,) = scores.notes
    assert note.startswith("2 of 3 questions have other than ten answers") and "image_qa" in note


def test_the_majority_target_is_the_official_answer_even_on_a_tie(tmp_path: Path) -> None:
    write_vqav2(tmp_path)
    path = tmp_path / "v2_mscoco_train2014_annotations.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        for number, answer in enumerate(annotation["answers"]):
            answer["answer"] = "pond" if number < 5 else "lake"
        annotation["multiple_choice_answer"] = "lake"
    path.write_text(json.dumps(content))
    task = get_task("vqav2")
    example = task.load("train", Source(data_root=tmp_path))[0]
    assert task.target(example, 0, 0, "majority") == "lake"
    assert task.target(example, 0, 0, "first") == "pond"


def test_the_prompt_is_that_of_the_published_transfer() -> None:
    assert get_task("vqav2").prompt("paligemma") == "answer en {question}"


def test_an_annotation_without_its_question_is_named(tmp_path: Path, load: Load) -> None:
    write_vqav2(tmp_path)
    (path,) = tmp_path.rglob("v2_OpenEnded_mscoco_val2014_questions.json")
    content = json.loads(path.read_text())
    removed = content["questions"].pop()["question_id"]
    path.write_text(json.dumps(content))
    with one_sentence("has 1 question(s) that it lacks", str(removed)):
        load("vqav2", "val", tmp_path)
