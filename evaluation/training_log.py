"""The log of a training: its curves, and the answers to the examples that it watched."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from common.json_files import read_json
from evaluation.own_code import Measure, measure_of, read_used
from models.run_record import RUN_FILE, read_run, trained_on
from tasks.base import Task
from tasks.files import read_bytes

STATE = "trainer_state.json"
WATCHED = "watched.jsonl"
JOINT = "joint"  # the headline of several tasks
LOWER, UPPER = "_lower_95", "_upper_95"  # behind a figure's name: the ends of its interval

Line = list[tuple[int, float]]  # a value at each step where it was logged
_Point = TypeVar("_Point")


class ScoredStep(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of the model as it was after a step; the interval is that of 95 %."""

    step: int
    value: float
    interval: tuple[float, float] | None


class ScoreCurve(msgspec.Struct, frozen=True, kw_only=True):
    """A metric during training; `best` is its best possible value, `final` that of the adapter."""

    name: str
    best: float
    points: list[ScoredStep]
    final: ScoredStep | None


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """The curves of a training, each over optimiser steps.

    Attributes:
        loss: mean cross-entropy in nats since the step logged before.
        learning_rate: of the step.
        gradient_norm: Euclidean, before it is clipped.
        scores: each headline that was measured.
        best_step: the step whose adapter is kept; None where nothing was scored on the way.
    """

    loss: Line
    learning_rate: Line
    gradient_norm: Line
    scores: list[ScoreCurve]
    best_step: int | None


class WatchedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a watched example at one scoring."""

    id: int | str
    question: str
    image: str
    references: tuple[str, ...]
    prediction: str
    score: float | None


class WatchedScoring(msgspec.Struct, frozen=True, kw_only=True):
    """One line of watched.jsonl: a scoring of one task, and its answers to the watched examples.

    Attributes:
        step: of the adapter that answered.
        is_final: whether it is the scoring after training.
    """

    step: int
    task: str
    split: str
    metric: str
    value: float | None
    interval_95: tuple[float, float] | None
    is_final: bool
    answers: list[WatchedAnswer]


def headlines(tasks: Sequence[Task | Measure]) -> dict[str, float]:
    """Return the names of what a training on these tasks is scored by, with their best values."""
    if len(tasks) == 1:
        return {tasks[0].metric: tasks[0].metric_range}
    return {JOINT: 1.0} | {f"{task.name}_{task.metric}": task.metric_range for task in tasks}


def make_curves(state: Mapping[str, Any], names: Mapping[str, float]) -> Curves:
    """Return the curves in a trainer's state.

    Args:
        state: `log_history` and `best_global_step` as transformers' TrainerState has them.
        names: of the headlines, with their best values.
    """
    history = state["log_history"]
    is_scored = any(f"eval_{name}" in entry for entry in history for name in names)
    best_step = (state.get("best_global_step") or None) if is_scored else None
    scores = [_score_curve(history, name, best, best_step) for name, best in names.items()]
    return Curves(
        loss=_line(history, "loss"),
        learning_rate=_line(history, "learning_rate"),
        gradient_norm=_line(history, "grad_norm"),
        scores=[curve for curve in scores if curve.points or curve.final],
        best_step=best_step,
    )


def read_curves(run_folder: Path) -> Curves | None:
    """Return the curves of a run; None where the folder is none, or its training did not end.

    Raises:
        ValueError: a file of it is not as it was written.
    """
    run = read_run(run_folder)
    if not trained_on(run) or not (run_folder / STATE).is_file():
        return None
    state = read_json(run_folder / STATE)
    try:
        return make_curves(state, headlines(_measures(run, run_folder / RUN_FILE)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run_folder / STATE} is not as training writes it.") from error


def _measures(run: Mapping[str, Any], path: Path) -> list[Task | Measure]:
    """What a run's tasks are scored by, by its record alone where their code is not loaded."""
    used, metric = read_used(run, str(path)), run["settings"].get("metric")
    return [measure_of(name, metric, used) for name in trained_on(run)]


def read_watched(run_folder: Path) -> list[WatchedScoring]:
    """Return the scorings in a run's watched.jsonl, as they came; none where there is no file.

    Raises:
        ValueError: a line is not as it was written.
    """
    path = run_folder / WATCHED
    if not path.is_file():
        return []
    try:
        return [
            msgspec.json.decode(line, type=WatchedScoring) for line in read_bytes(path).splitlines()
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not as training writes it ({error}); remove it.") from error


def drawable(curves: Curves) -> Curves | None:
    """Return the curves that a chart can show: one value alone is none. None where there is none.

    A metric is a curve where it was measured twice or more during training.
    """
    drawn = msgspec.structs.replace(
        curves,
        loss=_curve(curves.loss),
        learning_rate=_curve(curves.learning_rate),
        gradient_norm=_curve(curves.gradient_norm),
        scores=[curve for curve in curves.scores if _curve(curve.points)],
    )
    lines = (drawn.loss, drawn.learning_rate, drawn.gradient_norm, drawn.scores)
    return drawn if any(lines) else None


def _curve(points: list[_Point]) -> list[_Point]:
    return points if len(points) > 1 else []


def in_words(curves: Curves) -> list[str]:
    """Return a sentence for each loss or metric that no chart shows."""
    drawn = drawable(curves)
    shown = {curve.name for curve in drawn.scores} if drawn else set()
    left = [curve for curve in curves.scores if curve.name not in shown]
    without = msgspec.structs.replace(
        curves, loss=[] if drawn and drawn.loss else curves.loss, scores=left
    )
    return _sentences(without)


def describe(curves: Curves) -> str:
    """Return the curves in words, for those who cannot see them."""
    return " ".join(_sentences(curves))


def _sentences(curves: Curves) -> list[str]:
    parts = []
    if curves.loss:
        ends = dict.fromkeys((curves.loss[0], curves.loss[-1]))
        parts.append(f"Loss {', '.join(f'{loss:.4g} at step {step}' for step, loss in ends)}.")
    for curve in curves.scores:
        shown = [f"{point.value:.4g} at step {point.step}" for point in curve.points]
        if len(shown) > 2:
            shown = [shown[0], shown[-1]]
        best = [f"best {p.value:.4g} at step {p.step}" for p in curve.points if is_best(p, curves)]
        best = best if len(curve.points) > 1 else []
        final = [f"at the end {curve.final.value:.4g}"] if curve.final else []
        parts.append(f"{curve.name}: {', '.join(shown + best + final)}.")
    return parts


def is_best(point: ScoredStep, curves: Curves) -> bool:
    """Return True for the scoring whose adapter is kept."""
    return point.step == curves.best_step


def _score_curve(
    history: Sequence[Mapping[str, Any]], name: str, best: float, best_step: int | None
) -> ScoreCurve:
    final = [_scored(entry, f"final_{name}") for entry in history if f"final_{name}" in entry]
    return ScoreCurve(
        name=name,
        best=best,
        points=[_scored(entry, f"eval_{name}") for entry in history if f"eval_{name}" in entry],
        final=msgspec.structs.replace(final[-1], step=best_step or final[-1].step)
        if final
        else None,
    )


def _scored(entry: Mapping[str, Any], name: str) -> ScoredStep:
    ends = entry.get(name + LOWER), entry.get(name + UPPER)
    interval = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
    return ScoredStep(step=entry["step"], value=entry[name], interval=interval)


def _line(history: Sequence[Mapping[str, Any]], name: str) -> Line:
    # the library logs these three together; a number that is none has no place on an axis
    return [
        (entry["step"], float(entry[name]))
        for entry in history
        if "loss" in entry and name in entry and isfinite(entry[name])
    ]
