"""The trackers of a training: one run each, open until the last figures are there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from common.markup import markdown
from evaluation.image_sheet import open_sheet
from evaluation.training_log import WatchedScoring
from tasks.base import ImageRef
from tasks.report import Report

if TYPE_CHECKING:
    from finetuning.training.trainer import AnswerTrainer

_SIDE = 256  # pixels of the longer side of an image that is sent
_COLUMNS = ("id", "question", "references", "prediction", "score")


class Trackers:
    """The trackers that transformers made for a trainer, and for the one that takes its place.

    The library closes them at the end of training, and what is logged afterwards would open a
    second run: here they stay open until `close`.
    """

    def __init__(self) -> None:
        self.kept: dict[str, _KeptOpen] = {}  # by the library's name
        self.trainer: AnswerTrainer | None = None
        self.images: dict[tuple[str, int | str], Image.Image] = {}

    def attach(self, trainer: "AnswerTrainer") -> None:
        """Take over the trackers of a trainer; where one is held already, it goes on with that."""
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        self.trainer = trainer
        names = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
        handler = trainer.callback_handler
        handler.callbacks = [
            self.kept.setdefault(names[type(callback)], _KeptOpen(callback))
            if type(callback) in names
            else callback
            for callback in handler.callbacks
        ]

    def show(
        self,
        scorings: Sequence[WatchedScoring],
        reports: Sequence[Report],
    ) -> None:
        """Send the answers to the watched examples, with their images, to those that take such.

        They go to the step that training is at, those of the final scoring under another name.

        Args:
            scorings: of one step.
            reports: have the examples; an image that cannot be opened is left out.
        """
        if self.trainer is None or not {"tensorboard", "wandb"} & self.kept.keys():
            return
        now = self.trainer.state.global_step
        watched = {(scoring.task, a.id) for scoring in scorings for a in scoring.answers}
        images = {
            key: example.images
            for report in reports
            for example in report.examples
            if (key := (report.task.name, example.example_id)) in watched
        }
        for scoring in scorings:
            shown = {a.id: self._image(images, (scoring.task, a.id)) for a in scoring.answers}
            if "tensorboard" in self.kept:
                _show_on_board(self.kept["tensorboard"].tb_writer, scoring, shown, now)
            if "wandb" in self.kept:
                _show_on_wandb(scoring, shown, now)

    def _image(
        self, images: Mapping[tuple[str, int | str], Sequence[ImageRef]], key: tuple[str, int | str]
    ) -> Image.Image | None:
        if key not in self.images:
            try:
                image = open_sheet(images[key])
            except (OSError, ValueError):
                return None
            image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            self.images[key] = image
        return self.images[key]

    def close(self) -> None:
        """Tell each tracker that the training is at its end."""
        if self.trainer is not None:
            trainer = self.trainer
            for kept in self.kept.values():
                kept.tracker.on_train_end(
                    trainer.args, trainer.state, trainer.control, model=trainer.model
                )


class _KeptOpen:
    """A tracker to which a trainer cannot say that the training is at its end."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave it open."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tracker, name)


def _name(scoring: WatchedScoring) -> str:
    return f"{'watched_final' if scoring.is_final else 'watched'}/{scoring.task}"


def _cells(scoring: WatchedScoring) -> list[tuple[Any, ...]]:
    return [
        (a.id, a.question, "\n".join(dict.fromkeys(a.references)), a.prediction, a.score)
        for a in scoring.answers
    ]


def _show_on_board(
    writer: Any, scoring: WatchedScoring, images: Mapping[int | str, Image.Image | None], step: int
) -> None:
    """TensorBoard has no tables: a text, and the images beside it."""
    import numpy as np

    name = _name(scoring)
    cells = [map(markdown, row) for row in _cells(scoring)]
    lines = [f"| {' | '.join(row)} |" for row in (_COLUMNS, ["---"] * len(_COLUMNS), *cells)]
    writer.add_text(name, "\n".join(lines), step)
    for key, image in images.items():
        if image is not None:
            writer.add_image(f"{name}/{key}", np.asarray(image), step, dataformats="HWC")
    writer.flush()


def _show_on_wandb(
    scoring: WatchedScoring, images: Mapping[int | str, Image.Image | None], step: int
) -> None:
    import wandb

    table = wandb.Table(columns=["image", *_COLUMNS])
    for row in _cells(scoring):
        image = images[row[0]]
        # a column of W&B is of one kind, and ids are numbers in one data set and texts in another
        shown = None if image is None else wandb.Image(image)
        table.add_data(shown, str(row[0]), *row[1:])
    wandb.log({_name(scoring): table, "train/global_step": step})
