"""Scores to stand beside a model's: of answers that need no image, and of its base alone."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from PIL import Image

from common.terminal_table import align
from evaluation.answer_log import AnswerLog, baseline_folder
from evaluation.answering import log_identity
from tasks.base import Dataset, Example, ImageRef, MissingSplit, Source, Task
from tasks.report import Report, score
from tasks.splits import resolve_split

if TYPE_CHECKING:
    from evaluation.prediction import Predictor

logger = logging.getLogger(__name__)

MAJORITY, SHUFFLED, BLANK, BASE = "majority", "shuffled_images", "blank_images", "base_model"
LABELS = {
    MAJORITY: "most frequent answer",
    SHUFFLED: "other examples' images",
    BLANK: "grey images",
    BASE: "base without adapter",
}
REFERENCES = "the references scored on"  # where no training split is there to count
_GREY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class BlankImage:
    """Mid-grey, of the size of another image."""

    image: ImageRef

    @property
    def name(self) -> str:
        """Return the name of the image in whose place it stands."""
        return self.image.name

    def open(self) -> Image.Image:
        """Make the image: RGB."""
        return Image.new("RGB", self.image.open().size, _GREY)

    def dimensions(self) -> tuple[int, int]:
        """Return width and height of the other image."""
        return self.image.dimensions()


@dataclass(frozen=True, slots=True)
class Majority:
    """The most frequent answer, and the split whose answers were counted, or REFERENCES."""

    answer: str
    counted_in: str


@dataclass(frozen=True, slots=True)
class Baselines:
    """The answers of every baseline.

    Attributes:
        majority: the most frequent answer, for each example.
        texts: raw answers by the other baselines' names, in the order of the examples.
        notes: why one is missing.
    """

    majority: Majority
    texts: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()


def blank_images(examples: Sequence[Example]) -> list[Example]:
    """Give each example grey images of its own images' sizes."""
    return [_with_images(e, [BlankImage(image) for image in e.images]) for e in examples]


def _with_images(example: Example, images: Sequence[ImageRef]) -> Example:
    return msgspec.structs.replace(example, image=images[0], further_images=tuple(images[1:]))


def shuffle_images(examples: Sequence[Example], seed: int) -> list[Example] | None:
    """Give each example other images, along one seeded cycle through all distinct ones.

    Questions about one image get the same other one. Copies of an image in a Hub data set count
    as distinct.

    Returns:
        The examples; None where all are about one image.
    """
    order = list(dict.fromkeys(image for example in examples for image in example.images))
    if len(order) < 2:
        return None
    Random(seed).shuffle(order)
    other = dict(zip(order, order[1:] + order[:1], strict=True))
    return [_with_images(e, [other[image] for image in e.images]) for e in examples]


def most_frequent_answer(task: Task, examples: Iterable[Example]) -> str:
    """Return the answer that most examples have as their own most frequent; of equals the first."""
    answers = Counter(task.target(e, 0, 0, "majority") for e in examples if e.references)
    return answers.most_common(1)[0][0]


def find_majority(examples: Sequence[Example], task: Task, source: Source) -> Majority:
    """Count the answers of the training split, where it lies here; else those of the examples.

    A Hub copy is not downloaded for it, and a table of `--csv` has no training split.

    Args:
        examples: those to be scored, each of which has references or none.
        task: whose training split is looked for.
        source: of the examples.

    Raises:
        ValueError: no example has a reference, or the training split's files are damaged.
    """
    if not any(example.references for example in examples):
        raise ValueError(
            "--baselines are scores, and these examples have no answers to score against; leave "
            "it out."
        )
    train = _training_split(task, source)
    if train is not None:
        return Majority(most_frequent_answer(task, train), train.split)
    return Majority(most_frequent_answer(task, examples), REFERENCES)


def _training_split(task: Task, source: Source) -> Dataset | None:
    tables = set(source.tables.values())
    is_elsewhere = source.hub_repo or source.hub_split or len(tables) < len(source.tables)
    is_here = source.data_root or source.own_files or task.reads_tables or not task.needs_data
    if is_elsewhere or not is_here:
        return None
    plain = replace(source, with_images=False, reading=replace(source.reading, answers="required"))
    try:
        dataset, _ = resolve_split(task, None, plain, task.train_splits)
    except MissingSplit:
        return None
    return dataset


def answer_baselines(
    predictor: "Predictor",
    dataset: Dataset,
    report: Report,
    majority: Majority,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    seed: int,
    resume: bool,
) -> Baselines:
    """Let a model answer the examples of a report without their images, and its base with them.

    Each has its own log of answers, so that a kill on the way loses little.

    Args:
        predictor: answers.
        dataset: what the report is of.
        report: the model's own answers.
        majority: is passed on.
        folder: of the evaluation.
        identity: all of model and prompt that decides the answers.
        seed: of the images' exchange.
        resume: go on with the answers that an earlier evaluation left.
    """
    from models.adapter_loading import why_not_without

    examples, notes = report.examples, []
    asked: dict[str, Sequence[Example]] = {BLANK: blank_images(examples)}
    if (shuffled := shuffle_images(examples, seed)) is None:
        notes.append("There is no score with other examples' images: all are about one image.")
    else:
        asked = {SHUFFLED: shuffled, **asked}
    if identity["adapter"] is not None:
        if reason := why_not_without(Path(identity["adapter"])):
            notes.append(f"There is no score of the base without adapter: {reason}.")
        else:
            asked[BASE] = examples
    texts = {}
    for name, changed in asked.items():
        logger.info("Answering for --baselines: %s.", LABELS[name])
        entry = {**identity, "baseline": name, "baseline_seed": seed}
        place = baseline_folder(folder, name)
        log = AnswerLog(place, log_identity(predictor, dataset, entry), resume=resume)
        with predictor.model.disable_adapter() if name == BASE else nullcontext():
            texts[name] = predictor(changed, log)
        log.close()
    return Baselines(majority, texts, tuple(notes))


def add_baselines(report: Report, baselines: Baselines) -> Report:
    """Score baselines by the task's metric, as an entry of metrics.json by their names.

    Args:
        report: of the same examples; scored or not.
        baselines: their answers.
    """
    majority = baselines.majority
    texts = {MAJORITY: [majority.answer] * len(report.examples), **baselines.texts}
    entry: dict[str, dict[str, Any]] = {}
    for name, raw in texts.items():
        cleaned = [report.task.clean(text) for text in raw]
        scored = score(replace(report, predictions=cleaned), headline_only=True)
        spread = scored.uncertainty
        interval = spread.interval_95 if spread else None
        entry[name] = {"value": scored.value, "interval_95": interval}
    entry[MAJORITY] |= {"answer": majority.answer, "counted_in": majority.counted_in}
    return replace(
        report,
        notes=(*report.notes, *baselines.notes),
        additions={**report.additions, "baselines": entry},
    )


def baselines_table(report: Report) -> str | None:
    """Return the scores of the baselines for a terminal; None where none were asked for."""
    entry = report.additions.get("baselines")
    if entry is None:
        return None
    rows = []
    for name, found in entry.items():
        low, high = found["interval_95"] or (None, None)
        between = "" if low is None else f"(95 %: {low:.4g} to {high:.4g})"
        rows.append([LABELS[name], f"{found['value']:.4g}", between, about(found)])
    heading = f"beside it, by {report.task.metric} too"
    return f"{heading}\n{align(rows, left=(0, 1, 2, 3), indent=2)}"


def about(found: Mapping[str, Any]) -> str:
    """Return what a baseline's entry says beside its score."""
    if "answer" not in found:
        return ""
    if found["counted_in"] == REFERENCES:
        return f"{found['answer']!r}, counted in the very references scored on, so it flatters"
    return f"{found['answer']!r}, of split '{found['counted_in']}'"
