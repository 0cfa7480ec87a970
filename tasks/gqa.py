"""GQA: compositional questions about photographs; one answer of one or two words each.

Files: https://cs.stanford.edu/people/dorarad/gqa/download.html. Prompt: the PaliGemma transfer,
big_vision/configs/proj/paligemma/transfers/gqa.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import msgspec

from tasks.base import (
    Dataset,
    Example,
    ImageRef,
    MissingSplit,
    Scores,
    Source,
    Task,
    Turn,
    check_ids,
    check_references,
)
from tasks.files import decode, find_files, image_finder, local_root
from tasks.hub import HubCopy, HubTable, is_hub_copy, open_hub_copy
from tasks.metrics import gqa as metric

_FILES = {
    "train": "train_balanced",
    "train_all": "train_all",
    "val": "val_balanced",
    "val_all": "val_all",
    "testdev": "testdev_balanced",
    "testdev_all": "testdev_all",
    "test": "test_balanced",
    "challenge": "challenge_balanced",
}
_FOLDERS = ("", "questions1.2/", "question1.2/", "questions/")
_HUB_KINDS = ("instructions", "images")  # questions and images are separate configs


class Types(msgspec.Struct, frozen=True, gc=False):
    """What kind of question it is."""

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
    """A question of the official files; withheld splits have the first three fields."""

    imageId: str | int
    question: str
    isBalanced: bool = True
    answer: str | None = None
    types: Types | None = None
    groups: Groups | None = None
    entailed: list[str] | str | None = None  # a string in the Hub copy
    semantic: list[Operation] | None = None


class HubQuestion(Question, frozen=True, kw_only=True):
    """A question of the Hub copy."""

    id: str | int


class HubImage(msgspec.Struct, frozen=True):
    """The id of an image of the Hub copy."""

    id: str | int


class Choices(msgspec.Struct, frozen=True):
    """A question's entry in the choices file."""

    valid: list[str]
    plausible: list[str]


@dataclass(frozen=True, slots=True)
class Details:
    """What the metric needs of a question."""

    question: metric.Question
    choices: metric.Choices | None = None


class Row(msgspec.Struct, frozen=True):
    """A question with its image; `details` is None where the answer is withheld."""

    question_id: str
    question: str
    image: ImageRef
    details: Details | None


class Gqa(Task):
    """Compositional question answering, scored by the official accuracy and its companions."""

    name = "gqa"
    metric = "accuracy"
    metric_range = 100.0
    max_new_tokens = 16
    prompts: ClassVar = {"paligemma": "answer en {question}", "default": "{question}"}
    train_splits = ("train", "train_all")
    eval_splits = ("testdev", "val", "testdev_all", "val_all")
    hidden_splits = ("test", "challenge")
    tags = ("structural", "semantic", "words", "steps")

    def load(self, split: str, source: Source) -> Dataset:
        """Read the official files (chunked ones too) or a Hub copy."""
        self.check_split(split)
        wanted = f"gqa split '{split}'"
        if is_hub_copy(source):
            return Dataset(self, split, _hub_rows(source, split, wanted))
        return Dataset(self, split, _official_rows(local_root(source), split, wanted))

    def example(self, row: Row) -> Example:
        """Make the example of a question."""
        question = row.details.question if row.details else None
        tags = {}
        if question and question.is_balanced:  # the official tables leave the others out
            tags = {
                "structural": (question.structural,),
                "semantic": (question.semantic,),
                "words": (str(question.num_words),),
                "steps": (str(question.num_steps),),
            }
        return Example(
            example_id=row.question_id,
            image=row.image,
            turns=(Turn("user", row.question),),
            references=(question.answer,) if question else (),
            tags=tags,
            details=row.details,
        )

    def clean(self, raw: str) -> str:
        """Lower-case, strip and drop one final period: the official rule compares exactly."""
        return raw.strip().lower().removesuffix(".").rstrip()

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score in percent, distribution (lower is better) apart."""
        check_references(examples)
        by_id = {str(e.example_id): e.details for e in examples}
        answers = dict(zip(by_id, predictions, strict=True))
        choices = {key: details.choices for key, details in by_id.items() if details.choices}
        figures = metric.gqa_figures(
            {key: details.question for key, details in by_id.items()}, answers, choices or None
        )
        values = [100.0 * (answers[key] == by_id[key].question.answer) for key in by_id]
        return Scores(values=values, figures=figures.values, reasons=figures.reasons)


def _official_rows(root: Path, split: str, wanted: str) -> list[Row]:
    stem = f"{_FILES[split]}_questions"
    names = [f"{stem}.json", f"{stem}/{stem}_*.json"]  # train_all comes in chunks
    if split in Gqa.hidden_splits:
        names.append(f"{split}_all_questions.json")
    paths = find_files(root, [f"{folder}{name}" for folder in _FOLDERS for name in names], wanted)
    choices = _official_choices(root, split) if split in Gqa.eval_splits else {}
    hidden = split in Gqa.hidden_splits
    rows: dict[str, Row] = {}
    image = None
    for path in paths:  # one after the other: the chunks of train_all are some GB each
        questions = decode(path, dict[str, Question])
        check_ids([*questions, *(key for key in questions if key in rows)], str(path))
        image_names = (f"{question.imageId}.jpg" for question in questions.values())
        image = image or image_finder(root, ("images", "allImages/images", "."), image_names)
        for key, question in questions.items():
            where = f"{path}, question {key}"
            details = None if hidden else _details(question, where, choices.get(key))
            rows[key] = Row(key, question.question, image(f"{question.imageId}.jpg"), details)
    return list(rows.values())


def _official_choices(root: Path, split: str) -> dict[str, Choices]:
    """Validity and plausibility need `val_choices.json`, which the evaluation download has."""
    name = f"{_FILES[split].partition('_')[0]}_choices.json"
    folders = (*_FOLDERS, "eval/")
    try:
        (path,) = find_files(root, [folder + name for folder in folders], name)
    except MissingSplit:
        return {}
    return decode(path, dict[str, Choices])


def _details(question: Question, where: str, choices: Choices | None = None) -> Details:
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
    config = (source.hub_config or _FILES[split]).removesuffix("_instructions") + f"_{kind}"
    copy = HubCopy("lmms-lab/GQA", _FILES[split].partition("_")[0], config)
    return open_hub_copy(replace(source, hub_config=config), copy, wanted)
