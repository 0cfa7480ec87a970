"""The part of a report's page on the training behind an evaluation."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from evaluation.page_content import Evaluation
from evaluation.page_data import Page, Row, Training, WatchedExample
from evaluation.page_file import link_to
from evaluation.training_log import (
    Curves,
    WatchedScoring,
    drawable,
    in_words,
    read_curves,
    read_watched,
)

MOST_POINTS = 1000  # of a curve; more would not be told apart, and make a page of megabytes
_HERE = "this evaluation"
_Point = TypeVar("_Point")

logger = logging.getLogger(__name__)


def with_trainings(page: Page, evaluations: Sequence[Evaluation], output: Path) -> Page:
    """Return a page with the training of each run whose evaluation lies in the run's own folder.

    Args:
        page: of the evaluations.
        evaluations: in the order of the page's runs.
        output: where the page will lie, which links to images are relative to.
    """
    rows = {row.id: row for row in page.rows}
    found = []
    for run, evaluation in zip(page.runs, evaluations, strict=True):
        read = _read(evaluation.folder)
        if read is not None:
            found.append(_training(run.name, *read, evaluation, rows, output))
    return msgspec.structs.replace(page, trainings=found)


def watched_ids(folder: Path) -> set[int | str]:
    """Return the ids of the examples that were watched in the training behind an evaluation.

    Args:
        folder: of the evaluation.
    """
    root = _run_folder(folder)
    try:
        scorings = [] if root is None else read_watched(root)
    except ValueError:  # `with_trainings` says so
        return set()
    return {answer.id for scoring in scorings for answer in scoring.answers}


def _run_folder(folder: Path) -> Path | None:
    """The run that a folder of scores lies in, as `evaluation_folder` places it."""
    parents = list(folder.resolve().parents)[:2]
    return next((place.parent for place in parents if place.name == "evaluation"), None)


def _read(folder: Path) -> tuple[Curves, list[WatchedScoring]] | None:
    """The record of the run that a folder of scores lies in."""
    root = _run_folder(folder)
    try:
        curves = None if root is None else read_curves(root)
        return None if root is None or curves is None else (curves, read_watched(root))
    except ValueError as error:
        logger.warning("The page does not show the training: %s", error)
        return None


def _training(
    name: str,
    curves: Curves,
    scorings: Sequence[WatchedScoring],
    evaluation: Evaluation,
    rows: Mapping[int | str, Row],
    output: Path,
) -> Training:
    measured = evaluation.measured
    own = [scoring for scoring in scorings if scoring.task == measured.task]
    way = [scoring for scoring in own if not scoring.is_final]
    is_here = bool(own) and (way or own)[-1].split == measured.split
    watched = []
    for answer in {a.id: a for scoring in way or own for a in scoring.answers}.values():
        answers = [_answer(scoring, answer.id) for scoring in way]
        row = rows.get(answer.id) if is_here else None
        if is_here:
            line = evaluation.lines.get(answer.id)
            answers.append((line.prediction, line.score) if line else None)
        watched.append(
            WatchedExample(
                id=answer.id,
                question=answer.question,
                references=Counter(answer.references).most_common(),
                image=row.image if row else None,
                file=row.file if row else link_to(answer.image, output),
                answers=answers,
            )
        )
    thin, step = _thin(curves)
    notes = [f"The lines show one of {step} logged values."] if step > 1 else []
    notes += in_words(curves)
    if way and not is_here:
        notes.append(f"The watched examples are of split '{way[-1].split}'.")
    return Training(
        name=name,
        curves=drawable(thin),
        scores=curves.scores,
        best_step=curves.best_step,
        columns=[f"step {scoring.step}" for scoring in way] + [_HERE] * is_here,
        watched=watched,
        notes=notes,
    )


def _answer(scoring: WatchedScoring, key: int | str) -> tuple[str, float | None] | None:
    return next(((a.prediction, a.score) for a in scoring.answers if a.id == key), None)


def _thin(curves: Curves) -> tuple[Curves, int]:
    """Curves of fewer points, and every how many-th is kept; the last one always is."""
    step = -(-len(curves.loss) // MOST_POINTS) or 1

    def some(line: list[_Point]) -> list[_Point]:
        return line if step == 1 else [*line[:-1:step], line[-1]]

    thin = msgspec.structs.replace(
        curves,
        loss=some(curves.loss),
        learning_rate=some(curves.learning_rate),
        gradient_norm=some(curves.gradient_norm) if curves.gradient_norm else [],
    )
    return thin, step
