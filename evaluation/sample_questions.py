"""Questions to try a model on: those of its evaluation whose images are there, or drawn ones."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from evaluation.found_model import FoundModel
from evaluation.side_by_side import SideBySide
from models.checkpoint import run_folder_of
from models.run_record import evaluation_folder, trained_on
from tasks.base import ImageRef, Task
from tasks.images import FileImage
from tasks.sample import WRITERS, sample_source

logger = logging.getLogger(__name__)

_LINES = 100  # of an evaluation, that are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuestion:
    """A question about an image that is there."""

    image: ImageRef
    question: str
    task: Task


class _Row(msgspec.Struct, frozen=True, gc=False):
    """The part of a line of predictions.jsonl that says what was asked."""

    image: str | None = None
    images: tuple[str, ...] = ()  # where there are several, which the page cannot show
    question: str = ""


def sample_questions(models: SideBySide, number: int = 4) -> list[SampleQuestion]:
    """Find questions of each task of the models; nothing is downloaded for them.

    Args:
        models: the models.
        number: the most questions of a task.
    """
    found = []
    for task in models.tasks:
        answered = [
            question
            for candidate in models.candidates.values()
            for question in _answered(candidate.found, task)
        ]
        # of one image one question, in the order found; two runs mostly answered the same
        by_image = {question.image: question for question in reversed(answered)}
        distinct = list(reversed(by_image.values())) or list(_drawn(task))
        found += distinct[:number]
    return found


def _answered(found: FoundModel, task: Task) -> Iterator[SampleQuestion]:
    """Find what a run's evaluations of a task asked, where the image is a file that is there."""
    if task.name not in trained_on(found.run):
        return
    folder = run_folder_of(found.checkpoint.adapter or Path(found.checkpoint.base))
    splits = evaluation_folder(folder, found.run, task.name, "any").parent
    for path in sorted(splits.glob("*/predictions.jsonl")):
        with path.open("rb") as file:
            for line in islice(file, _LINES):
                try:
                    row = msgspec.json.decode(line, type=_Row)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # an example less to click
                if row.image and not row.images and Path(row.image).is_file():
                    yield SampleQuestion(
                        image=FileImage(row.image), question=row.question, task=task
                    )


def _drawn(task: Task) -> Iterator[SampleQuestion]:
    """Take questions of the embedded data, where the task has some."""
    if task.needs_data and task.name not in WRITERS:
        return
    try:
        dataset = task.load(task.eval_splits[0], sample_source(task))
    except ValueError as error:
        logger.warning("There are no examples of %s: %s", task.name, error)
        return
    for example in dataset.subset(_LINES, seed=0):  # each of one image
        yield SampleQuestion(image=example.image, question=example.turns[-1].text, task=task)
