"""GQA: layouts, chunks, ids that stay text, cleaning, and the figures that the data allows."""

import json
from pathlib import Path

import pytest

from tasks.registry import get_task
from tests.helpers import Load, one_sentence
from tests.official_files import GQA_LAYOUTS, gqa_question, write_gqa, write_json


@pytest.mark.parametrize("layout", GQA_LAYOUTS)
@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", ["0100", "0101", "0102", "0103"]),
        ("train_all", ["0100", "0101", "0102", "0103"]),
        ("testdev", ["0500", "0501", "0502"]),
        ("val", ["0500", "0501", "0502"]),
        ("testdev_all", ["0500", "0501", "0502"]),
        ("val_all", ["0500", "0501", "0502"]),
        ("test", ["0900", "0901"]),
        ("challenge", ["0900", "0901"]),
    ],
)
def test_every_split_is_read_in_every_layout(
    tmp_path: Path, load: Load, layout: str, split: str, ids: list[str]
) -> None:
    dataset = load("gqa", split, write_gqa(tmp_path, layout))
    assert [example.example_id for example in dataset] == ids
    assert all(example.image.open().size == (24, 16) for example in dataset)


def test_a_question_has_its_answer_and_tags(tmp_path: Path, load: Load) -> None:
    example = load("gqa", "val", write_gqa(tmp_path))[1]
    assert example.references == ("green",)
    assert example.tags == {
        "structural": ("query",),
        "semantic": ("attr",),
        "words": ("4",),  # What color is it?
        "steps": ("2",),
    }


def test_an_id_in_two_chunks_is_an_error(tmp_path: Path, load: Load) -> None:
    folder = write_gqa(tmp_path) / "questions1.2/train_all_questions"
    write_json(folder / "train_all_questions_2.json", {"0100": gqa_question(100)})
    with one_sentence("train_all_questions_2.json has 1 id(s) more than once: 0100"):
        load("gqa", "train_all", tmp_path)


def test_a_train_question_without_answer_is_named(tmp_path: Path, load: Load) -> None:
    path = write_gqa(tmp_path, "root") / "train_balanced_questions.json"
    content = json.loads(path.read_text())
    del content["0102"]["answer"]
    path.write_text(json.dumps(content))
    with one_sentence(f"{path}, question 0102 lacks the required field `answer`"):
        load("gqa", "train", tmp_path)


def test_hidden_splits_have_no_references(tmp_path: Path, load: Load) -> None:
    assert load("gqa", "challenge", write_gqa(tmp_path))[0].references == ()


@pytest.mark.parametrize("raw", ["Yes", " yes. ", "yes", "YES."])
def test_predictions_are_cleaned_to_the_form_of_the_answers(raw: str) -> None:
    assert get_task("gqa").clean(raw) == "yes"


def test_only_one_final_period_is_dropped() -> None:
    assert get_task("gqa").clean("u.s..") == "u.s."


def test_figures_without_choices_file_say_why_they_are_not_available(
    tmp_path: Path, load: Load
) -> None:
    examples = list(load("gqa", "testdev", write_gqa(tmp_path)))
    # 500 yes/no, 501 open, 502 yes/no; only the last one is wrong
    scores = get_task("gqa").score(["yes", "green", "no"], examples)
    assert scores.values == [100, 100, 0]
    assert scores.metrics == {
        "accuracy": pytest.approx(200 / 3),
        "binary": 50,
        "open": 100,
        "consistency": None,
        "validity": None,
        "plausibility": None,
        "distribution": 0,
    }
    assert scores.reasons.keys() == {"consistency", "validity", "plausibility"}


def test_a_choices_file_gives_validity_and_plausibility(tmp_path: Path, load: Load) -> None:
    examples = list(load("gqa", "val", write_gqa(tmp_path, choices=True)))
    scores = get_task("gqa").score(["no", "green", "maybe"], examples)
    assert scores.metrics["validity"] == pytest.approx(200 / 3)  # "maybe" is not valid
    assert scores.metrics["plausibility"] == pytest.approx(100 / 3)  # nor is "no" plausible


def test_consistency_is_given_where_the_entailed_questions_are_among_the_examples(
    tmp_path: Path, load: Load
) -> None:
    path = write_gqa(tmp_path, "root") / "val_all_questions.json"
    content = json.loads(path.read_text())
    content["0500"]["entailed"] = ["0500", "0501", "0502"]
    content["0502"]["isBalanced"] = False
    path.write_text(json.dumps(content))
    examples = list(load("gqa", "val_all", tmp_path))
    scores = get_task("gqa").score(["yes", "green", "no"], examples)
    assert scores.metrics["consistency"] == 50  # of 501 and 502 the first is right
    assert scores.metrics["accuracy"] == 100  # 502 is not balanced, so it does not count
    assert examples[2].tags == {}  # nor in the tables
