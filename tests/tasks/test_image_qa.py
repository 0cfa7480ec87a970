"""image_qa: VQA accuracy where a question has one answer, a few, or ten people's; the columns."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.base import Example, Source
from tasks.registry import get_task
from tests.helpers import one_sentence

TASK = get_task("image_qa")


def example(*answers: str) -> Example:
    return Example(example_id=0, image=None, turns=(), references=answers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        # one answer stands for ten equal ones, which the script compares as they are
        ("yes", ["yes"], 100.0),
        ("yes\n", ["yes"], 100.0),
        ("Yes", ["yes"], 0.0),
        ("a cat", ["cat"], 0.0),
        # of a few each counts in full; they differ, so case, articles and number words do not
        ("Yes", ["yes", "yeah"], 100.0),
        ("the 2", ["two", "a couple", "2 of them"], 100.0),
        ("3", ["two", "a couple"], 0.0),
        ("the red dog", ["the  red\ndog"], 100.0),  # predictions have single spaces
        # ten are votes. Two equal the prediction: with one of them left out 1 / 3, else 2 / 3,
        # (2 * 1/3 + 8 * 2/3) / 10 = 0.6
        ("red", ["red"] * 2 + ["blue"] * 8, 60.0),
        # three: (3 * 2/3 + 7 * 1) / 10 = 0.9
        ("red", ["red"] * 3 + ["blue"] * 7, 90.0),
    ],
)
def test_ten_answers_are_votes_and_fewer_stand_for_ten_people_each(
    prediction: str, answers: list[str], expected: float
) -> None:
    scores = TASK.score_headline([prediction], [example(*answers)])
    assert scores.values == pytest.approx([expected])
    assert scores.metrics == {"vqa_accuracy": pytest.approx(expected)}


def test_the_lenient_figure_normalises_single_answers_too() -> None:
    metrics = TASK.lenient(["Yes", "no"], [example("yes"), example("two")])
    assert metrics == {"vqa_accuracy_always_normalized": 50.0}


@pytest.mark.usefixtures("no_java")
def test_the_figures_of_text_stand_behind_the_accuracy() -> None:
    # "a red cat" / "a cat": subsequence 2, precision 2/3, recall 2/2, F = 4/5
    scores = TASK.score(["a red cat", "no"], [example("a cat"), example("no")])
    assert scores.values == [0.0, 100.0]
    assert next(iter(scores.metrics)) == "vqa_accuracy"
    assert scores.metrics["vqa_accuracy"] == 50.0
    assert scores.metrics["rouge_l"] == pytest.approx(0.9)
    assert {"sacrebleu", "Bleu_4", "METEOR", "CIDEr"} <= scores.metrics.keys()
    assert "sacrebleu_signature" in scores.additions


def saved(folder: Path, **texts: Any) -> Path:
    import datasets

    features = {"image": datasets.Image()} | {name: datasets.Value("string") for name in texts}
    columns = {
        "image": [Image.new("RGB", (8, 4))],
        **{name: [text] for name, text in texts.items()},
    }
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    datasets.DatasetDict(validation=table).save_to_disk(str(folder))
    return folder


def test_columns_are_image_question_and_answer_unless_named(tmp_path: Path) -> None:
    usual = saved(
        tmp_path / "usual", question="what?", answer="a dot", instruction="no", response=""
    )
    (found,) = TASK.load("val", Source(data_root=usual))
    assert (found.turns[0].text, found.references) == ("what?", ("a dot",))
    assert found.image.open().size == (8, 4)
    other = saved(tmp_path / "other", q="why?", a="because")
    columns = {"instruction": "q", "response": "a"}
    (found,) = TASK.load("val", Source(data_root=other, columns=columns))
    assert (found.turns[0].text, found.references) == ("why?", ("because",))
    with one_sentence("no column 'question'", "--hub_columns instruction=COLUMN"):
        TASK.load("val", Source(data_root=other))
