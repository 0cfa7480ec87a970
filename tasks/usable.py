"""The examples of a split that can be used: every image is decoded, each once."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from common.progress import Bar
from common.threads import map_ahead
from common.workers import usable_cpus
from tasks.base import Dataset, ImageRef, Source, Task
from tasks.checks import check_ids, name_some, unanswered
from tasks.faults import Fault
from tasks.splits import resolve_split

logger = logging.getLogger(__name__)

OnBadImage = Literal["error", "skip"]


def check_split(
    task: Task, split: str | None, source: Source, num_workers: int | Literal["auto"] = "auto"
) -> tuple[Dataset, list[Fault]]:
    """Read a split, and decode every image of it.

    Args:
        task: whose split.
        split: its name; None takes the first that is there.
        source: where it lies.
        num_workers: threads that decode; `auto` takes one a processor.

    Returns:
        The usable examples, and what is wrong with the others: each example is in one of the two.

    Raises:
        ValueError: a file cannot be read as a whole.
    """
    faults: list[Fault] = []
    dataset, _ = resolve_split(task, split, replace(source, faults=faults), task.splits)
    where = str(source.data_root or source.hub_repo)
    without = unanswered(task, dataset.split, dataset)
    bad = [Fault(key, where, "The record has no answer.") for key in without]
    dataset = dataset.leave_out(bad)
    bad += unreadable_images(dataset, num_workers)
    return dataset.leave_out(bad), faults + bad


def unreadable_images(dataset: Dataset, num_workers: int | Literal["auto"] = "auto") -> list[Fault]:
    """Decode every image of a split, each once, and return the examples whose image is bad.

    Args:
        dataset: the split; its ids are unique.
        num_workers: threads that decode; `auto` takes one a processor.
    """
    images: dict[str, ImageRef] = {}
    examples: dict[str, list[int | str]] = defaultdict(list)
    for example in dataset:
        for name, image in {image.name: image for image in example.images}.items():
            images.setdefault(name, image)
            examples[name].append(example.example_id)
    threads = usable_cpus() if num_workers == "auto" else max(1, num_workers)
    reasons = []
    with Bar(f"decoding {dataset.task.name} {dataset.split}", len(images), "images") as bar:
        for reason in map_ahead(_fault, images.values(), threads):
            reasons.append(reason)
            bar.advance()
    faults: dict[int | str, Fault] = {}  # one of each example, whose images may all be bad
    for name, reason in zip(images, reasons, strict=True):
        if reason:
            for example_id in examples[name]:
                faults.setdefault(example_id, Fault(example_id, name, reason))
    return list(faults.values())


def _fault(image: ImageRef) -> str | None:
    """What is wrong with an image; None where it can be decoded."""
    try:
        image.open()
    except ValueError as error:
        return str(error)
    return None


def without_bad_images(
    dataset: Dataset, on_bad_image: OnBadImage, num_workers: int | Literal["auto"] = "auto"
) -> Dataset:
    """Return a split without the examples whose image cannot be read, where those are skipped.

    Raises:
        ValueError: no example is left.
    """
    if on_bad_image == "error":
        return dataset
    where = f"{dataset.task.name} split '{dataset.split}'"
    check_ids((example.example_id for example in dataset), where)
    faults: Sequence[Fault] = unreadable_images(dataset, num_workers)
    if len(faults) == len(dataset):
        raise ValueError(
            f"{where} has no image that can be read; the first fault is: {faults[0].reason}"
        )
    if not faults:
        return dataset
    logger.warning(
        "%s: %d of %d examples are left out, as their images cannot be read: %s. The first: %s",
        *(where, len(faults), len(dataset), name_some([fault.id for fault in faults])),
        faults[0].reason,
    )
    return dataset.leave_out(faults)
