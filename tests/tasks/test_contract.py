"""What a task of the user's gives back: refused in a sentence where it is something else."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.base import Example, Source
from tasks.registry import load_tasks
from tasks.report import Report, evaluate
from tasks.splits import resolve_split
from tests.helpers import REPOSITORY, one_sentence
from tests.own_code import blocks

PAGE = blocks(REPOSITORY / "docs/own_task.md")["my_task.py"]
SCORES = "return Scores(values=values, metrics={self.metric: fmean(values)})"
TURN = 'Turn("user", "which colour is this?")'
IMAGE = 'ArrayImage(pixels, name=f"square {number}")'
METHOD = "    def score("


def scored(tmp_path: Path, was: str, now: str) -> Report:
    """The report of a model that answers the one or the other, by the page's task with a slip."""
    assert was in PAGE
    path = tmp_path / "slipped_task.py"
    path.write_text(PAGE.replace(was, now), encoding="utf-8")
    (task,) = load_tasks(str(path))
    dataset, _ = resolve_split(task, None, Source(), task.eval_splits)

    def answers(examples: Sequence[Example]) -> list[str]:
        return [("red", "blue")[place % 2] for place, _ in enumerate(examples)]

    return evaluate(task, answers, dataset)


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ("references=(colour,)", "references=colour", ("example", "references = 'green'", '("')),
        ("references=(colour,)", "references=(number,)", ("references = (0,)", "texts")),
        ('tags={"colour": (colour,)}', 'tags={"colour": colour}', ("tags", "tuples of texts")),
        ("example_id=number", "example_id=number / 2", ("example_id = 0.0", "whole number")),
        ("example_id=number", "example_id=bool(number)", ("example_id = False", "whole number")),
        ("example_id=number", "example_id=str(number)", ("'0'", "id_type = str")),
        (f"({TURN},)", '"which?"', ("turns = 'which?'", "one Turn or more")),
        (f"({TURN},)", "()", ("turns = ()", "one Turn or more")),
        ('Turn("user"', 'Turn("human"', ("'human'", "user, assistant or system")),
        (TURN, 'Turn("user", 7)', ("text=7",)),
        (
            'ArrayImage(pixels, name=f"square {number}")',
            '"0.png"',
            ("image = '0.png'", "FileImage"),
        ),
        ("        return Example(", "        Example(", ("example returned None", "an Example")),
        ("return Dataset(self, split, list(", "return list((", ("load returned [(0", "a Dataset")),
        ("list(enumerate(names))", "enumerate(names)", ("rows are a list",)),
        (METHOD, f"    def clean(self, raw):\n        pass\n\n{METHOD}", ("clean returned None",)),
        (METHOD, f"    def clean(self):\n        pass\n\n{METHOD}", ("clean is called with raw",)),
        (
            METHOD,
            f"    def target(self, *given):\n        pass\n\n{METHOD}",
            ("target returned None", "a text"),
        ),
        (SCORES, "pass", ("score returned None", "Scores(")),
        (SCORES, "return fmean(values)", ("Scores(",)),
        (SCORES, f"values = values[1:]\n        {SCORES}", ("23 values of 24 examples",)),
        (SCORES, f"values = [250.0] * 24\n        {SCORES}", ("250.0", "metric_range, 100")),
        (SCORES, f"values = [-1.0] * 24\n        {SCORES}", ("-1.0", "from 0")),
        (SCORES, f'values[3] = float("nan")\n        {SCORES}', ("the value nan",)),
        (SCORES, 'return Scores(values=["1"] * 24, metrics={})', ("the value '1'",)),
        (SCORES, 'return Scores(values=values, metrics={"acc": 1.0})', ("acc", "'accuracy'")),
        (SCORES, 'return Scores(values=values, metrics={"accuracy": "7"})', ("accuracy = '7'",)),
        (
            SCORES,
            SCORES.replace("fmean(values)}", 'fmean(values), "f1": float("nan")}'),
            ("f1 = nan", "finite"),
        ),
        (
            SCORES,
            "return Scores(values=[100.0] * 24, metrics={self.metric: 40.0})",
            ("accuracy 40", "the mean 100", "None for each"),
        ),
        ('metric = "accuracy"', 'metric = " "', ("a metric with a name",)),
        (
            METHOD,
            f"    def __init__(self):\n        raise OSError('gone')\n\n{METHOD}",
            ("OSError: gone", "Swatches could not be made"),
        ),
    ],
)
def test_a_slip_is_told_with_the_place_and_what_is_accepted(
    tmp_path: Path, was: str, now: str, parts: tuple[str, ...]
) -> None:
    with one_sentence("slipped_task.py, line ", "Swatches", *parts):
        scored(tmp_path, was, now)


@pytest.mark.parametrize(
    "now",
    [
        "values = numpy.array(values)\n        return Scores(values=values, "
        "metrics={self.metric: values.mean()})",
        "mean = fmean(values)\n        return Scores(values=iter(values), "
        "metrics={self.metric: round(mean, 1)})",
        "mean = fmean(values)\n        predictions.sort()\n        examples.clear()\n        "
        "return Scores(values=values, metrics={self.metric: mean})",
    ],
)
def test_numbers_of_any_kind_are_taken_and_answers_stay_as_they_were(
    tmp_path: Path, now: str
) -> None:
    report = scored(tmp_path, SCORES, now)
    assert list(report.predictions) == ["red", "blue"] * 12
    right = [p in e.references for p, e in zip(report.predictions, report.examples, strict=True)]
    assert [row["score"] for row in report.prediction_rows()] == [100.0 * r for r in right]
    assert {type(row["score"]) for row in report.prediction_rows()} == {float}
    assert report.value == pytest.approx(100 * sum(right) / 24, abs=0.05)


def test_a_figure_of_the_whole_split_is_no_mean_and_counts_all_examples(tmp_path: Path) -> None:
    report = scored(
        tmp_path, SCORES, "return Scores(values=[None] * 24, metrics={self.metric: -0.4})"
    )
    assert (report.value, report.num_examples, report.uncertainty) == (-0.4, 24, None)
