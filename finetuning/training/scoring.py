"""The score of a model in training: its answers to the selection split, scored as a whole."""

from collections.abc import Callable, Sequence
from typing import Any

from common import processes
from finetuning.training.joint import joint_metrics
from tasks.report import Report, score


class Scoring:
    """A scorer that keeps the reports of its newest scoring, on the first process alone.

    Args:
        answer: returns the answers of a model, as a report without scores for each task.
    """

    def __init__(self, answer: Callable[[Any], Sequence[Report]]) -> None:
        self.answer = answer
        self.reports: Sequence[Report] = ()

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the named figures of a model, the headline first."""
        answered = self.answer(model)
        metrics: dict[str, float] = processes.of_first(lambda: self._score(answered))
        return metrics

    def _score(self, answered: Sequence[Report]) -> dict[str, float]:
        self.reports = [score(report, headline_only=True) for report in answered]
        return joint_metrics(self.reports)
