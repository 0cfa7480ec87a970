"""DocVQA: layouts, several question types per question, ANLS."""

from pathlib import Path

import pytest

from tasks.registry import get_task
from tests.helpers import Load
from tests.official_files import DOCVQA_LAYOUTS, write_docvqa


@pytest.mark.parametrize("layout", DOCVQA_LAYOUTS)
@pytest.mark.parametrize(
    ("split", "ids"),
    [("train", [100, 101, 102, 103]), ("val", [500, 501, 502]), ("test", [900, 901])],
)
def test_every_split_is_read_in_every_layout(
    tmp_path: Path, load: Load, layout: str, split: str, ids: list[int]
) -> None:
    dataset = load("docvqa", split, write_docvqa(tmp_path, layout))
    assert [example.example_id for example in dataset] == ids
    assert all(example.image.open().size == (24, 16) for example in dataset)


def test_a_question_has_all_its_answers_and_types(tmp_path: Path, load: Load) -> None:
    example = load("docvqa", "val", write_docvqa(tmp_path))[1]
    assert example.references == ("Green", "green paper")
    assert example.tags == {"question_type": ("layout", "form")}
    assert example.turns[0].text == "What color is the page?"


def test_the_test_split_has_no_references(tmp_path: Path, load: Load) -> None:
    assert load("docvqa", "test", write_docvqa(tmp_path))[0].references == ()


def test_scores_are_anls_and_exact_matches(tmp_path: Path, load: Load) -> None:
    examples = list(load("docvqa", "val", write_docvqa(tmp_path)))
    # answers: Red, Green, Blue. "green papr": 1 deletion over the 11 of "green paper"
    scores = get_task("docvqa").score(["red", "green papr", "xyz"], examples)
    assert scores.values == pytest.approx([1, 10 / 11, 0])
    assert scores.metrics == pytest.approx({"anls": 21 / 33, "accuracy": 1 / 3})


def test_the_prompt_is_the_bare_question() -> None:
    assert get_task("docvqa").prompt("paligemma") == "{question}"
