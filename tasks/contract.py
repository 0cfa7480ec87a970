"""Checks of what a task gives back, which may be of the user's code: Python checks no type."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from math import isfinite
from numbers import Real
from statistics import fmean
from typing import Any

from common.user_code import place_of
from tasks.base import Dataset, Example, Scores, Task, Turn

_ROUNDING = 1e-9  # of the best value: sums of floats may lie this much outside
_MEAN_ROUNDING = 0.01  # of the best value: a headline may be rounded for people
_LONGEST = 80
_METHODS = ("load", "example", "score", "score_headline", "lenient", "working", "clean", "target")


def check_methods(task: Task) -> None:
    """Raise ValueError where a method takes other arguments than it is called with."""
    for name in _METHODS:
        wanted = [*signature(getattr(Task, name)).parameters][1:]
        try:
            signature(getattr(task, name)).bind(*wanted)
        except TypeError as error:
            raise ValueError(
                f"{place_of(type(task))}: {type(task).__name__}.{name} is called with "
                f"{', '.join(wanted)}, and does not take these ({error})."
            ) from error


def checked_dataset(task: Task, found: Any) -> Dataset:
    """Return the split that a task has read; of a user's task each example is looked at.

    Raises:
        ValueError: it is no Dataset, or an example has a field of another type; names both.
    """
    if not isinstance(found, Dataset):
        raise _wrong(task, "load", found, "a Dataset, as in Dataset(self, split, rows)")
    if type(task).__module__.startswith("tasks."):
        return found
    if not (hasattr(found.rows, "__len__") and hasattr(found.rows, "__getitem__")):
        raise _wrong(task, "load", found.rows, "a Dataset whose rows are a list")
    if not isinstance(cleaned := task.clean("a text"), str):
        raise _wrong(task, "clean", cleaned, "a text")
    target: Any = None
    for example in found:
        _check_example(task, example)
        if example.references and target is None:
            target = task.target(example, 0, 0)
            if not isinstance(target, str):
                raise _wrong(task, "target", target, "a text")
    return found


def checked_scores(task: Task, found: Any, num_examples: int) -> Scores:
    """Return the scores of a task with each figure as a float.

    Args:
        task: gave them.
        found: what it gave.
        num_examples: that were scored.

    Raises:
        ValueError: they are no Scores, or a score is no number from 0 to the best value; or there
            is not one for each example; or the headline is missing, or not their mean.
    """
    if not isinstance(found, Scores):
        raise _wrong(task, "score", found, "Scores, as in Scores(values=…, metrics=…)")
    values, best = list(found.values), task.metric_range
    if len(values) != num_examples:
        accepted = "Scores with one value for each example, or None in its place"
        raise _wrong(task, "score", f"{len(values)} values of {num_examples} examples", accepted)
    for value in values:
        if value is not None and not _is_score(value, best):
            accepted = f"values from 0 to its metric_range, {best:g}"
            raise _wrong(task, "score", f"the value {value!r}", accepted)
    metrics = {name: _figure(task, name, value) for name, value in found.metrics.items()}
    if task.metric not in metrics:
        accepted = f"metrics with the headline '{task.metric}'"
        raise _wrong(task, "score", f"metrics {', '.join(metrics) or 'without a name'}", accepted)
    floats = [None if value is None else float(value) for value in values]
    counted, headline = [value for value in floats if value is not None], metrics[task.metric]
    if headline is not None and counted:
        mean = fmean(counted)
        if abs(mean - headline) > _MEAN_ROUNDING * best:
            accepted = "values whose mean it is, or None for each example where it is no mean"
            what = f"the headline {task.metric} {headline:g} and values with the mean {mean:g}"
            raise _wrong(task, "score", what, accepted)
    return replace(found, values=floats, metrics=metrics)


def _is_score(value: Any, best: float) -> bool:
    return isinstance(value, Real) and -_ROUNDING * best <= float(value) <= best + _ROUNDING * best


def _figure(task: Task, name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not isfinite(value):
        raise _wrong(task, "score", f"{name} = {value!r}", "finite numbers, or None")
    return float(value)


def _check_example(task: Task, example: Any) -> None:
    if not isinstance(example, Example):
        raise _wrong(task, "example", example, "an Example")
    where = f"in example {_short(example.example_id)}"
    for name, (is_right, accepted) in _FIELDS.items():
        if not is_right(value := getattr(example, name)):
            raise _wrong(task, "example", f"{name} = {_short(value)} {where}", accepted)
    if not isinstance(key := example.example_id, task.id_type):
        accepted = f"an {task.id_type.__name__}, or set id_type = {type(key).__name__} in the class"
        raise _wrong(task, "example", f"example_id = {key!r}", accepted)


def _is_image(value: Any) -> bool:
    methods = (getattr(value, name, None) for name in ("open", "dimensions"))
    return isinstance(getattr(value, "name", None), str) and all(map(callable, methods))


def _is_turn(value: Any) -> bool:
    roles = ("user", "assistant", "system")
    return isinstance(value, Turn) and value.role in roles and isinstance(value.text, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _all(is_right: Callable[[Any], bool], value: Any) -> bool:
    """Return True for a tuple or a list of right entries; a text is no list of letters."""
    return isinstance(value, tuple | list) and all(map(is_right, value))


def _are_tags(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_all(_is_text, kinds) for kinds in value.values())


_IMAGE = "an image with name, open and dimensions, such as tasks.images.FileImage(path)"
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "example_id": (
        lambda value: isinstance(value, int | str) and not isinstance(value, bool),
        "a whole number or a text",
    ),
    "image": (_is_image, _IMAGE),
    "further_images": (lambda value: _all(_is_image, value), f"a tuple, each entry {_IMAGE}"),
    "turns": (
        lambda value: bool(value) and _all(_is_turn, value),
        "a tuple of one Turn or more, each with the role user, assistant or system and a text",
    ),
    "references": (
        lambda value: _all(_is_text, value),
        'a tuple of texts, as in ("red",) for a single one',
    ),
    "tags": (_are_tags, 'a dict of tuples of texts, as in {"colour": ("red",)}'),
}


def _wrong(task: Task, method: str, found: Any, accepted: str) -> ValueError:
    """Return the error of a method that gave something else than is accepted."""
    what = found if isinstance(found, str) else _short(found)
    kind = type(task)
    return ValueError(
        f"{place_of(kind)}: {kind.__name__}.{method} returned {what}; return {accepted}."
    )


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
