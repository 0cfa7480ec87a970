"""The watched answers of a training: at each scoring to their file and to the trackers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from finetuning.training.scoring import Scoring
from finetuning.training.trackers import Trackers
from finetuning.training.watched import WatchedAnswers
from tasks.report import Report

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from finetuning.training.trainer import AnswerTrainer


class Following(TrainerCallback):
    """Writes the answers to the watched examples, and hands them to the trackers.

    Args:
        watched: what is watched.
        trackers: of the run.
    """

    def __init__(self, watched: WatchedAnswers, trackers: Trackers) -> None:
        self.watched = watched
        self.trackers = trackers
        self.trainer: AnswerTrainer | None = None

    def attached(self, trainer: "AnswerTrainer") -> "AnswerTrainer":
        """Return a trainer that this goes along with from now on."""
        self.trackers.attach(trainer)
        trainer.add_callback(self)
        self.trainer = trainer
        return trainer

    def on_evaluate(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Take the answers from the scoring that has just been made."""
        scorer = self.trainer.scorer if self.trainer else None
        if isinstance(scorer, Scoring):
            self._add(state.global_step, scorer.reports)

    def end(self, reports: Sequence[Report]) -> None:
        """Take the answers from the scoring after training, by the adapter that is kept."""
        assert self.trainer is not None
        state = self.trainer.state
        is_best = self.trainer.args.load_best_model_at_end and state.best_global_step
        self._add(int(is_best or state.global_step), reports, is_final=True)

    def _add(self, step: int, reports: Sequence[Report], *, is_final: bool = False) -> None:
        if not reports:  # a process beside the first
            return
        self.trackers.show(self.watched.add(step, reports, is_final=is_final), reports)
