"""The metric of a table: named ones by hand, functions of the user's, and what is refused."""

import pickle
from pathlib import Path

import pytest
from PIL import Image

from tasks.base import Example, Turn
from tasks.images import ArrayImage
from tasks.own_metric import find_metric, load_metric, metric_names, metric_of, with_metric
from tasks.registry import get_task
from tests.helpers import one_sentence
from tests.own_code import write_blocks


def examples(*references: tuple[str, ...]) -> list[Example]:
    image = ArrayImage(Image.new("L", (2, 2)), "image")
    turns = (Turn("user", "?"),)
    return [
        Example(example_id=f"e{n}", image=image, turns=turns, references=texts)
        for n, texts in enumerate(references)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exact_match", [1.0, 0.0]),  # case counts
        # ANLS ignores case: one edit of three letters leaves 2/3, over the threshold of 1/2
        ("anls", [1.0, 2 / 3]),
        ("token_f1", [1.0, 0.0]),
        ("rouge_l", [1.0, 0.0]),
        ("vqa_accuracy", [100.0, 0.0]),
    ],
)
def test_a_named_metric_scores_each_example(name: str, expected: list[float]) -> None:
    task = with_metric(get_task("csv_qa"), name)
    scores = task.score_headline(["a  b", "Cot"], examples(("x", "a b"), ("cat",)))
    assert scores.values == pytest.approx(expected)
    assert (task.metric, task.metric_range) == (name, 100.0 if name == "vqa_accuracy" else 1.0)
    assert scores.metrics == {name: pytest.approx(sum(expected) / 2)}


def test_the_names_are_those_of_the_page() -> None:
    assert metric_names() == ("exact_match", "anls", "token_f1", "rouge_l", "vqa_accuracy")


def test_the_function_of_the_page_scores_and_stands_beside_the_text_figures(
    tmp_path: Path, no_java: None
) -> None:
    (path,) = (p for p in write_blocks("own_metric.md", tmp_path) if p.suffix == ".py")
    metric = load_metric(f"{path}:number_match")
    assert (metric.name, metric.text, metric.best) == ("number_match", f"{path}:number_match", 1.0)
    task = with_metric(get_task("image_qa"), metric.text)
    scores = task.score(["1,000 cars", "two 2"], examples(("1000", "3"), ("22",)))
    assert list(scores.values) == [1.0, 0.0]
    assert next(iter(scores.metrics.items())) == ("number_match", 0.5)
    assert "sacrebleu" in scores.metrics and "vqa_accuracy" not in scores.metrics
    assert task.working("a", ["b"]) == () and get_task("image_qa").metric == "vqa_accuracy"
    assert pickle.loads(pickle.dumps(task)).metric == "number_match"  # workers get it so
    assert metric_of(task) is not None and metric_of(get_task("image_qa")) is None


def test_a_tasks_own_metric_by_name_changes_nothing() -> None:
    task = get_task("csv_qa")
    assert with_metric(task, "rouge_l") is task and with_metric(task, None) is task


FUNCTIONS = """
import numpy

def nothing(prediction, references):
    return None

def one_text(prediction):
    return 1

def a_text(prediction, references):
    return "1"

def nan(prediction, references):
    return float("nan")

def over(prediction, references):
    return 1.5

def under(prediction, references):
    return -0.1

def fails(prediction, references):
    return int(prediction)

def rougeL(prediction, references):
    return 1

def later(prediction, references):
    return 2 if len(prediction) > 1 else numpy.float32(0.5)

def is_equal(prediction, references):
    return prediction in references

def leaves(prediction, references):
    raise SystemExit(0)

number = 3
"""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nothing", ("is None", "from 0 to 1")),
        ("leaves", ("SystemExit: 0",)),
        ("one_text", ("line 7", "prediction and the list")),
        ("a_text", ("is '1'",)),
        ("nan", ("is nan",)),
        ("over", ("is 1.5",)),
        ("under", ("is -0.1",)),
        ("fails", ("line 23", "ValueError: invalid literal")),
        ("rougeL", ("line 25", "figure of PaliTune")),
        ("missing", ("no function missing", "is_equal")),
        ("number", ("no function number",)),
    ],
)
def test_a_function_that_is_no_metric_is_refused_before_the_work(
    tmp_path: Path, name: str, parts: tuple[str, ...]
) -> None:
    path = tmp_path / "own_functions.py"
    path.write_text(FUNCTIONS)
    with one_sentence("own_functions.py" if "line" in parts[0] else name, *parts):
        load_metric(f"{path}:{name}")


def test_a_score_out_of_range_names_its_example(tmp_path: Path) -> None:
    path = tmp_path / "own_functions.py"
    path.write_text(FUNCTIONS)
    task = with_metric(get_task("csv_qa"), load_metric(f"{path}:later").text)
    with one_sentence("later", "example e1", "'bb'", "is 2"):
        task.score_headline(["a", "bb"], examples(("a",), ("b",)))
    task = with_metric(get_task("csv_qa"), load_metric(f"{path}:is_equal").text)
    assert task.score_headline(["a", "bb"], examples(("a",), ("b",))).values == [1.0, 0.0]


@pytest.mark.parametrize("text", ["rouge", "file.py", ":f", "file.py:", "file.py:a b", ""])
def test_what_names_no_metric_is_refused_with_the_names(text: str) -> None:
    with one_sentence("--metric", "token_f1", "FILE.py:FUNCTION"):
        find_metric(text)


def test_a_task_with_official_files_keeps_its_metric() -> None:
    with one_sentence("vqav2", "vqa_accuracy", "leave it out"):
        with_metric(get_task("vqav2"), "anls")
