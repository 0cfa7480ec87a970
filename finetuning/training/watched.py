"""The same few examples at each scoring of a training, with the answers to them: watched.jsonl."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from common.files import write_chunks
from evaluation.training_log import WATCHED, WatchedAnswer, WatchedScoring, read_watched
from tasks.report import Report

NUM_WATCHED = 8


class WatchedAnswers:
    """The answers to eight examples of each task, drawn by the seed and kept by a resumed run.

    They are taken from what a scoring answers anyway; where it has fewer examples, all are watched.

    Args:
        folder: of the run, for watched.jsonl.
        seed: draws the examples.
        resume: go on with those of the file.

    Raises:
        ValueError: the file of the run is not as it was written.
    """

    def __init__(self, folder: Path, seed: int, *, resume: bool) -> None:
        self.path = folder / WATCHED
        self.seed = seed
        self.lines = read_watched(folder) if resume else []

    def add(
        self, step: int, reports: Sequence[Report], *, is_final: bool = False
    ) -> list[WatchedScoring]:
        """Write the answers of a scoring to the file, and return its lines, one for each report.

        Lines of later steps are of a course that a resumed run left, and go. A task whose watched
        examples are of another split than the final scoring has no final line.

        Args:
            step: of the adapter that answered.
            reports: the scoring of each task.
            is_final: whether it is the scoring after training.
        """
        before = [
            line for line in self.lines if not line.is_final and (is_final or line.step < step)
        ]
        new = []
        for report in reports:
            known = [line for line in before if line.task == report.task.name]
            if not is_final or not known or known[-1].split == report.split:
                new.append(self._line(step, report, known, is_final))
        self.lines = before + new
        write_chunks(self.path, [msgspec.json.encode(line) + b"\n" for line in self.lines])
        return new

    def _line(
        self, step: int, report: Report, known: Sequence[WatchedScoring], is_final: bool
    ) -> WatchedScoring:
        interval = report.uncertainty.interval_95 if report.uncertainty else None
        return WatchedScoring(
            step=step,
            task=report.task.name,
            split=report.split,
            metric=report.task.metric,
            value=report.value,
            interval_95=interval,
            is_final=is_final,
            answers=[_answer(report, place) for place in self._places(report, known)],
        )

    def _places(self, report: Report, known: Sequence[WatchedScoring]) -> list[int]:
        """The places in a report of the examples that are watched from the first scoring on."""
        ids = {a.id for line in known if line.split == report.split for a in line.answers}
        examples = report.examples
        places = [place for place, example in enumerate(examples) if example.example_id in ids]
        if places:
            return places
        num_watched = min(NUM_WATCHED, len(examples))
        return sorted(Random(self.seed).sample(range(len(examples)), num_watched))


def _answer(report: Report, place: int) -> WatchedAnswer:
    example = report.examples[place]
    return WatchedAnswer(
        id=example.example_id,
        question=example.turns[-1].text,
        image=example.image.name,
        references=tuple(example.references),
        prediction=report.predictions[place],
        score=report.scores.values[place] if report.scores else None,
    )
