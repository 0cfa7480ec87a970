"""The metric of a table, chosen by the user: one of ours by name, or a function of theirs."""

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from common.user_code import UserCode, load_code, load_unchanged, place_in_user_code, place_of, said
from tasks.base import Example, Scores, Task
from tasks.text_scoring import score_texts

T = TypeVar("T", bound=Task)
Function = Callable[[str, list[str]], Any]  # one prediction and its references -> its score
_OPTION = "--metric"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric that is a mean over examples.

    Attributes:
        name: under which figures and tables show it.
        text: what to type for it: the name, or FILE.py:FUNCTION.
        best: its best value; the least is 0.
        rule: what it does, in a few words.
        source: where that is laid down.
    """

    name: str
    text: str
    best: float
    rule: str
    source: str | None = None

    def values(self, predictions: Sequence[str], examples: Sequence[Example]) -> list[float]:
        """Score each example.

        Raises:
            ValueError: a function of the user's fails, or returns no number in its range.
        """
        function = _NAMED[self.name][1] if self.text in _NAMED else load_function(self.text)[1]
        return [
            self.checked(function, prediction, example.references, f"example {example.example_id}")
            for prediction, example in zip(predictions, examples, strict=True)
        ]

    def checked(
        self, function: Function, prediction: str, references: Sequence[str], what: str
    ) -> float:
        """Return the score of one prediction.

        Args:
            function: gives it.
            prediction: the text.
            references: accepted texts.
            what: the example, for errors.

        Raises:
            ValueError: as in `values`.
        """
        where = f"{_OPTION} {self.name}: {what}"
        try:
            value = function(prediction, list(references))
        except (Exception, SystemExit) as error:  # it may be a script that ends itself
            place = place_in_user_code(error, ())
            if place is None:
                raise
            raise ValueError(f"{where}: {place}: {said(error)}.") from error
        if not isinstance(value, Real) or not 0 <= float(value) <= self.best:
            raise ValueError(
                f"{where}: the score of prediction {prediction!r} is {value!r}; a number from 0 to "
                f"{self.best:g} is accepted."
            )
        return float(value)


def metric_names() -> tuple[str, ...]:
    """Return the names of our own metrics that a table may be scored by."""
    return tuple(_NAMED)


def find_metric(text: str) -> Metric:
    """Return the metric of a name, or of a function, whose code is not loaded yet.

    Raises:
        ValueError: it is neither.
    """
    if text in _NAMED:
        return _NAMED[text][0]
    module, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not module:
        raise ValueError(
            f"{_OPTION} takes one of {', '.join(_NAMED)}, or a function as FILE.py:FUNCTION; got "
            f"'{text}'."
        )
    rule = f"the user's function {name} in {Path(module).name}, mean over examples"
    return Metric(name=name, text=text, best=1.0, rule=rule)


def load_metric(text: str) -> Metric:
    """Return a metric that was tried: a function of the user's is loaded and called.

    Raises:
        ValueError: there is none, its name is taken, or it does not return a number from 0 to 1.
    """
    metric = find_metric(text)
    if text in _NAMED:
        return metric
    load_unchanged(text.rpartition(":")[0], _OPTION)
    code, function = load_function(text)
    if metric.name in (*_NAMED, *_text_figures()):
        raise ValueError(
            f"{place_of(function)}: the name {metric.name} is that of a figure of PaliTune; give "
            "the function another."
        )
    try:
        inspect.signature(function).bind("", [""])
    except TypeError as error:
        raise ValueError(
            f"{place_of(function)}: {metric.name} is called with a prediction and the list of its "
            f"references, and does not take these two ({error})."
        ) from error
    for prediction, references in (("", ["a"]), ("a", ["a", "b c"])):
        what = f"tried on references {references}"
        metric.checked(function, prediction, references, what)
    return replace(metric, text=f"{code.name}:{metric.name}")


def load_function(text: str) -> tuple[UserCode, Function]:
    """Load the function that FILE.py:FUNCTION names, with its code.

    Raises:
        ValueError: the file cannot be loaded, or has no such function.
    """
    module, _, name = text.rpartition(":")
    code = load_code(module, _OPTION)
    function = vars(code.module).get(name)
    if not callable(function):
        known = [
            key
            for key, value in vars(code.module).items()
            if inspect.isfunction(value) and value.__module__ == code.module.__name__
        ]
        raise ValueError(
            f"{_OPTION}: {code.path} has no function {name}; its functions are "
            f"{', '.join(known) or 'none'}."
        )
    return code, function


def with_metric(task: T, text: str | None) -> T:
    """Return a task that is scored by another metric, its text figures beside it.

    Args:
        task: the task.
        text: a name, or FILE.py:FUNCTION; None leaves the task as it is.

    Raises:
        ValueError: the task reads no table, so it has a metric that is its own.
    """
    if text is None:
        return task
    metric = find_metric(text)
    if not task.reads_tables:
        raise ValueError(
            f"{_OPTION} {text} is for tasks that read tables, and {task.name} is scored by its "
            f"official {task.metric}; leave it out."
        )
    if metric.name == task.metric:
        return task
    scored = copy(task)
    vars(scored).update(
        metric=metric.name,
        metric_range=metric.best,
        rule=metric.rule,
        rule_source=metric.source,
        own_metric=metric,
        score=partial(_score, metric),
        score_headline=partial(_score_headline, metric),
        working=_no_working,
    )
    return scored


def metric_of(task: Task) -> Metric | None:
    """Return the metric that a task was given; None where it has its own."""
    found: Metric | None = vars(task).get("own_metric")
    return found


def _score(metric: Metric, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
    values = metric.values(predictions, examples)
    text = score_texts(predictions, examples, headline="rouge_l")
    metrics = {metric.name: fmean(values)}
    return replace(text, values=values, metrics=metrics | {**text.metrics, **metrics})


def _score_headline(
    metric: Metric, predictions: Sequence[str], examples: Sequence[Example]
) -> Scores:
    values = metric.values(predictions, examples)
    return Scores(values=values, metrics={metric.name: fmean(values)})


def _no_working(prediction: str, references: Sequence[str]) -> Sequence[str]:
    return ()


def _text_figures() -> tuple[str, ...]:
    from tasks.metrics.text import FIGURES

    return FIGURES


def _exact_match(prediction: str, references: Sequence[str]) -> float:
    return float(" ".join(prediction.split()) in [" ".join(text.split()) for text in references])


def _anls(prediction: str, references: Sequence[str]) -> float:
    from tasks.metrics.anls import anls

    return anls(prediction, references)


def _token_f1(prediction: str, references: Sequence[str]) -> float:
    from tasks.metrics.token_f1 import token_f1

    return token_f1(prediction, references)


def _rouge_l(prediction: str, references: Sequence[str]) -> float:
    from tasks.metrics.text import rouge_l

    return rouge_l([prediction], [references])[0]


def _vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    from tasks.metrics.vqa import accuracy_of_accepted

    return 100 * accuracy_of_accepted(prediction, references)


def _named(
    name: str, best: float, rule: str, source: str | None, function: Function
) -> tuple[str, tuple[Metric, Function]]:
    metric = Metric(
        name=name, text=name, best=best, rule=f"{rule}, mean over examples", source=source
    )
    return name, (metric, function)


_NAMED: dict[str, tuple[Metric, Function]] = dict(
    (
        _named("exact_match", 1.0, "equal to a reference but for white space", None, _exact_match),
        _named(
            "anls",
            1.0,
            "ANLS with the threshold 0.5, the best reference",
            "https://arxiv.org/abs/1905.13648",
            _anls,
        ),
        _named(
            "token_f1",
            1.0,
            "token F1 as in SQuAD, the best reference",
            "https://arxiv.org/abs/1606.05250",
            _token_f1,
        ),
        _named(
            "rouge_l",
            1.0,
            "ROUGE-L F-measure over Unicode words, the best reference",
            "https://aclanthology.org/W04-1013",
            _rouge_l,
        ),
        _named(
            "vqa_accuracy",
            100.0,
            "VQA accuracy of the official script; of fewer than ten answers each counts in full",
            "https://github.com/GT-Vision-Lab/VQA, vqaEval.py",
            _vqa_accuracy,
        ),
    )
)
