"""The files of GQA, official or a Hub copy, as rows.

Files: https://cs.stanford.edu/people/dorarad/gqa/download.html.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tasks.base import ImageRef, MissingSplit, Source
from tasks.files import decode, find_files, image_finder, local_root
from tasks.hub import HubTable, column_names, is_hub_copy, open_hub_copy
from tasks.hub_download import HubCopy
from tasks.metrics import gqa as metric
from tasks.records import UNREADABLE, check_inner, note, read_keyed, unique

FILES = {
    "train": "train_balanced",
    "train_all": "train_all",
    "val": "val_balanced",
    "val_all": "val_all",
    "testdev": "testdev_balanced",
    "testdev_all": "testdev_all",
    "test": "test_balanced",
    "challenge": "challenge_balanced",
    "submission": "submission_all",
}
_FOLDERS = ("", "questions1.2/", "question1.2/", "questions/")
_IMAGE_FOLDERS = ("images", "allImages/images", ".")
_HUB_KINDS = ("instructions", "images")  # questions and images are separate configs


class Types(msgspec.Struct, frozen=True, gc=False):
    """The kind of a question."""

    structural: str
    semantic: str
    detailed: str = ""


class Groups(msgspec.Struct, frozen=True, gc=False):
    """The group that the answer distribution is taken over."""

    global_: str | None = msgspec.field(default=None, name="global")


class Operation(msgspec.Struct, frozen=True, gc=False):
    """A step of the question's program."""

    operation: str
    argument: str


class Question(msgspec.Struct, frozen=True):
    """A question of the official files; its answer may be withheld."""

    imageId: str | int
    question: str
    isBalanced: bool = True
    answer: str | None = None


class FullQuestion(Question, frozen=True, kw_only=True):
    """A question with what the figures over balanced questions need."""

    types: Types | None = None
    groups: Groups | None = None
    entailed: list[str] | str | None = None  # a string in the Hub copy
    semantic: list[Operation] | None = None


class HubQuestion(FullQuestion, frozen=True, kw_only=True):
    """A question of the Hub copy."""

    id: str | int


_HEAD = msgspec.json.Decoder(Question, strict=False)
_FULL = msgspec.json.Decoder(FullQuestion, strict=False)


class HubImage(msgspec.Struct, frozen=True):
    """The id of an image of the Hub copy."""

    id: str | int


COLUMNS = column_names(HubQuestion, HubImage)


class Choices(msgspec.Struct, frozen=True):
    """A question's entry in the choices file."""

    valid: list[str]
    plausible: list[str]


@dataclass(frozen=True, slots=True)
class Details:
    """The part of a question that the metric needs."""

    question: metric.Question
    choices: metric.Choices | None = None


class Row(msgspec.Struct, frozen=True):
    """A question with its image; `details` is None where the answer is withheld."""

    question_id: str
    question: str
    image: ImageRef
    details: Details | None


def read_rows(split: str, source: Source, hidden: bool) -> list[Row]:
    """Read the questions of a split.

    Args:
        split: the task's name of it.
        source: where it lies.
        hidden: whether its answers are withheld.
    """
    wanted = f"gqa split '{split}'"
    if is_hub_copy(source):
        return _hub_rows(source, split, wanted)
    return _official_rows(source, split, wanted, hidden)


def _official_rows(source: Source, split: str, wanted: str, hidden: bool) -> list[Row]:
    root = local_root(source)
    stem = f"{FILES[split]}_questions"
    names = [f"{stem}.json", f"{stem}/{stem}_[0-9]*.json"]  # train_all comes in chunks
    if hidden:
        names.append(f"{split}_all_questions.json")
    paths = find_files(root, [f"{folder}{name}" for folder in _FOLDERS for name in names], wanted)
    choices = {} if hidden or split.startswith("train") else _official_choices(root, split)
    rows: dict[str, Row] = {}
    image = None
    for path in paths:  # one after the other: the chunks of train_all are some GB each
        records = read_keyed(path, source)  # whole records would take 10 GB
        if not rows.keys().isdisjoint(records):
            unique([*rows, *records], str, path, source)
            records = {key: record for key, record in records.items() if key not in rows}
        for key, record in records.items():
            try:
                question = _parse(_HEAD, record, path, key)
                name = f"{question.imageId}.jpg"
                check_inner(name, f"{path}, question {key}")
                details = _unbalanced(None if hidden else question.answer)
                if not hidden and question.isBalanced:
                    question = _parse(_FULL, record, path, key)
                    details = _details(question, f"{path}, question {key}", choices.get(key))
            except ValueError as error:
                note(source, key, path, error)
                continue
            if image is None:
                image = image_finder(source, _IMAGE_FOLDERS, _image_names(records))
            rows[key] = Row(key, question.question, image(name), details)
    return list(rows.values())


def _image_names(records: dict[str, msgspec.Raw]) -> Iterator[str]:
    for record in islice(records.values(), 1000):
        with suppress(*UNREADABLE):
            yield f"{_HEAD.decode(record).imageId}.jpg"


def _parse(decoder: Any, record: msgspec.Raw, path: Path, key: str) -> Any:
    try:
        return decoder.decode(record)
    except UNREADABLE as error:
        raise ValueError(f"{path}, question {key} is not in the official format: {error}.") from (
            error
        )


def _official_choices(root: Path, split: str) -> dict[str, Choices]:
    """Validity and plausibility need `val_choices.json`, which the evaluation download has."""
    name = f"{FILES[split].partition('_')[0]}_choices.json"
    folders = (*_FOLDERS, "eval/")
    try:
        (path,) = find_files(root, [folder + name for folder in folders], name)
    except MissingSplit:
        return {}
    return decode(path, dict[str, Choices])


@cache  # there are some 2,000 answers to 14 million such questions
def _unbalanced(answer: str | None) -> Details | None:
    """The fields of a question that serves consistency alone, as one that is entailed."""
    if answer is None:
        return None
    return Details(
        metric.Question(
            answer=answer,
            structural="",
            semantic="",
            detailed="",
            global_group=None,
            entailed=(),
            is_balanced=False,
            num_words=0,
            num_steps=0,
        )
    )


def _details(question: FullQuestion, where: str, choices: Choices | None = None) -> Details:
    if question.answer is None or question.types is None:
        absent = "answer" if question.answer is None else "types"
        raise ValueError(f"{where} lacks the required field `{absent}`.")
    entailed = question.entailed or ()
    if isinstance(entailed, str):  # the ids in it, however it writes the list
        entailed = re.findall(r"\w*\d\w*", entailed)
    program = [(step.operation, step.argument) for step in question.semantic or ()]
    return Details(
        metric.Question(
            answer=question.answer,
            structural=question.types.structural,
            semantic=question.types.semantic,
            detailed=question.types.detailed,
            global_group=question.groups.global_ if question.groups else None,
            entailed=tuple(entailed),
            is_balanced=question.isBalanced,
            num_words=metric.num_words(question.question),
            num_steps=metric.num_steps(program),
        ),
        metric.Choices(valid=choices.valid, plausible=choices.plausible) if choices else None,
    )


def _hub_rows(source: Source, split: str, wanted: str) -> list[Row]:
    questions, images = (_hub_table(source, split, kind, wanted) for kind in _HUB_KINDS)
    index_by_id = {str(image.id): index for index, image in enumerate(images.rows(HubImage))}
    image = images.images()
    rows = []
    for question in questions.rows(HubQuestion):
        index = index_by_id.get(str(question.imageId))
        if index is None:
            raise ValueError(
                f"{images.name} has no image {question.imageId}, which question {question.id} of "
                f"{questions.name} asks about; take both from the same copy."
            )
        hidden = question.answer is None
        details = None if hidden else _details(question, f"{wanted}, question {question.id}")
        rows.append(Row(str(question.id), question.question, image(index), details))
    return rows


def _hub_table(source: Source, split: str, kind: str, wanted: str) -> HubTable:
    config = (source.hub_config or FILES[split]).removesuffix("_instructions") + f"_{kind}"
    copy = HubCopy("lmms-lab/GQA", FILES[split].partition("_")[0], config)
    return open_hub_copy(replace(source, hub_config=config), copy, wanted)
