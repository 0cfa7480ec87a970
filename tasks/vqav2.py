"""VQAv2: short answers to questions about photographs; ten human answers each.

Files and ids: https://visualqa.org/download.html. Prompt and answer sampling: the PaliGemma
transfer, big_vision/configs/proj/paligemma/transfers/vqav2.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from sys import intern
from typing import ClassVar

import msgspec

from tasks.answer_choice import AnswerSampling
from tasks.base import (
    Dataset,
    Example,
    ImageRef,
    Scores,
    Source,
    Task,
    Turn,
)
from tasks.checks import name_some
from tasks.faults import Fault
from tasks.files import find_files, image_finder, local_root
from tasks.hub import column_names, is_hub_copy, open_hub_copy
from tasks.hub_download import HubCopy
from tasks.metrics.vqa import NUM_VOTES, explain, plain_accuracy, vqa_accuracy
from tasks.records import note, read_records, unique

_SUBTYPES = {"train": "train2014", "val": "val2014", "test-dev": "test-dev2015", "test": "test2015"}
_HUB = {
    "train": HubCopy("Multimodal-Fatima/VQAv2_train", "train"),
    "val": HubCopy("lmms-lab/VQAv2", "validation"),
    "test-dev": HubCopy("lmms-lab/VQAv2", "testdev"),
    "test": HubCopy("lmms-lab/VQAv2", "test"),
}
_COLUMNS = {"image_id": ("image_id", "id_image"), "answers": ("answers_original", "answers")}


class Question(msgspec.Struct, frozen=True, gc=False):
    """A record of the questions file."""

    question_id: int
    image_id: int
    question: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The answer of one of ten people."""

    answer: str


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """A record of the annotations file; a Hub copy leaves it empty where answers are withheld."""

    question_id: int
    question_type: str | None
    answer_type: str | None
    answers: list[Answer] | None
    multiple_choice_answer: str | None = None


class Row(msgspec.Struct, frozen=True, gc=False):
    """A question with its image and, unless withheld, its ten answers."""

    question: Question
    image: ImageRef
    answers: tuple[str, ...] = ()
    majority: str | None = None
    tags: dict[str, tuple[str, ...]] = {}


class VqaV2(Task):
    """Visual question answering, scored by the official VQA accuracy."""

    name = "vqav2"
    metric = "vqa_accuracy"
    columns = column_names(Question, Annotation)
    metric_range = 100.0
    max_new_tokens = 16
    prompts: ClassVar = {"paligemma": "answer en {question}", "default": "{question}"}
    hidden_splits = ("test-dev", "test")
    official_files = r"v2_OpenEnded_mscoco_.+_questions\.json"
    rule = (
        "VQA accuracy: mean over ten leave-one-out sets of min(matches / 3, 1), normalised only "
        "where the human answers differ"
    )
    rule_source = "https://github.com/GT-Vision-Lab/VQA, vqaEval.py"
    result_keys = ("question_id", "answer")
    tags = ("answer_type", "question_type")

    def load(self, split: str, source: Source) -> Dataset:
        """Read the official files or a Hub copy."""
        self.check_split(split)
        if not is_hub_copy(source):
            return Dataset(self, split, _official_rows(source, split))
        table = open_hub_copy(source, _HUB[split], f"vqav2 split '{split}'", _COLUMNS)
        pairs = zip(table.rows(Question), table.rows(Annotation), strict=True)
        image, images = table.images(), dict[int, ImageRef]()
        rows = [  # what is asked of one image shares it, as in the official files
            _row(question, images.setdefault(question.image_id, image(index)), annotation)
            for index, (question, annotation) in enumerate(pairs)
        ]
        return Dataset(self, split, rows)

    def example(self, row: Row) -> Example:
        """Make the example of a question."""
        return Example(
            example_id=row.question.question_id,
            image=row.image,
            turns=(Turn("user", row.question.question),),
            references=row.answers,
            tags=row.tags,
            details=row.majority,
        )

    def target(
        self, example: Example, epoch: int, seed: int, sampling: AnswerSampling = "published"
    ) -> str:
        """Return as in Task; the majority is `multiple_choice_answer`, which breaks ties."""
        if sampling == "majority" and example.details is not None:
            return str(example.details).strip()
        return super().target(example, epoch, seed, sampling)

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score in percent."""
        values = [
            100 * vqa_accuracy(prediction, example.references)
            for prediction, example in zip(predictions, examples, strict=True)
        ]
        num_other = sum(len(example.references) != NUM_VOTES for example in examples)
        note = (
            f"{num_other} of {len(examples)} questions have other than ten answers, for which the "
            "official rule is made: it always gives 0 where there is one answer, and a third at "
            "most where there are two; the task image_qa is for one accepted answer."
        )
        return Scores(
            values=values,
            metrics={self.metric: fmean(values)},
            notes=(note,) if num_other else (),
        )

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain the ten leave-one-out sets."""
        return explain(prediction, references)

    def lenient(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Score by two wide-spread variants of the rule, in percent; neither is official."""
        pairs = [(p, e.references) for p, e in zip(predictions, examples, strict=True)]
        return {
            "vqa_accuracy_always_normalized": 100
            * fmean(vqa_accuracy(p, answers, always_normalize=True) for p, answers in pairs),
            "vqa_accuracy_plain": 100 * fmean(plain_accuracy(*pair) for pair in pairs),
        }

    def results_name(self, dataset: Dataset) -> str:
        """Return the official pattern, with our name in the place of the algorithm's."""
        return f"v2_OpenEnded_mscoco_{_SUBTYPES[dataset.split]}_palitune_results.json"


def _row(question: Question, image: ImageRef, annotation: Annotation | None) -> Row:
    if annotation is None or not annotation.answers:
        return Row(question, image)
    return Row(
        question,
        image,
        answers=tuple([intern(a.answer) for a in annotation.answers]),  # 4.4 million, few distinct
        majority=annotation.multiple_choice_answer,
        tags=_tags(annotation.answer_type, annotation.question_type),
    )


@cache  # some 200 pairs
def _tags(answer_type: str | None, question_type: str | None) -> dict[str, tuple[str, ...]]:
    kinds = {"answer_type": answer_type, "question_type": question_type}
    return {name: (kind,) for name, kind in kinds.items() if kind}


def _official_rows(source: Source, split: str) -> list[Row]:
    root = local_root(source)
    subtype = _SUBTYPES[split]
    name = f"v2_OpenEnded_mscoco_{subtype}_questions.json"
    wanted = f"vqav2 split '{split}'"
    (path,) = find_files(root, (name, f"Questions/{name}", f"questions/{name}"), wanted)
    questions = read_records(path, {"questions": Question}, source)["questions"]
    questions = unique(questions, _question_id, path, source)
    annotations: dict[int, Annotation] = {}
    if split in VqaV2.train_splits + VqaV2.eval_splits:
        own = replace(source, faults=None if source.faults is None else [])
        annotations = _official_annotations(root, subtype, wanted, own)
        questions = _annotated(questions, annotations, path, source, own.faults)
    folder = subtype.replace("test-dev", "test")  # test-dev asks about images of the test split
    folders = (f"Images/mscoco/{folder}", f"Images/{folder}", folder, f"images/{folder}", "images")
    names = {q.image_id: f"COCO_{folder}_{q.image_id:012d}.jpg" for q in questions}
    image = image_finder(source, folders, names.values())
    return [_row(q, image(names[q.image_id]), annotations.get(q.question_id)) for q in questions]


def _question_id(record: Question | Annotation) -> int:
    return record.question_id


def _annotated(
    questions: list[Question],
    annotations: Mapping[int, Annotation],
    path: Path,
    source: Source,
    unread: Sequence[Fault] | None,
) -> list[Question]:
    """The questions that have an annotation; `unread` are the annotations that have a fault."""
    asked = {question.question_id for question in questions}
    surplus = [key for key in annotations if key not in asked]
    if len(surplus) > len(source.faults or ()):  # of questions with a fault one each is left
        raise ValueError(
            f"The annotations file beside {path} has {len(surplus)} question(s) that it lacks: "
            f"{name_some(surplus)}; take both files from the same release."
        )
    reasons = {fault.id: fault.reason for fault in unread or ()}
    without = [q.question_id for q in questions if q.question_id not in annotations]
    if source.faults is None and without:
        raise ValueError(
            f"{path} has {len(without)} question(s) that the annotations file lacks: "
            f"{name_some(without)}; take both files from the same release."
        )
    faulty = [*without, *(key for key in annotations if key in reasons and key in asked)]
    for key in faulty:
        reason = reasons.get(key, "The annotations file lacks the question, or it cannot be read.")
        note(source, key, path, ValueError(reason))
    left_out = set(faulty)
    return [q for q in questions if q.question_id not in left_out]


def _official_annotations(
    root: Path, subtype: str, wanted: str, source: Source
) -> dict[int, Annotation]:
    name = f"v2_mscoco_{subtype}_annotations.json"
    (path,) = find_files(root, (name, f"Annotations/{name}", f"annotations/{name}"), wanted)
    annotations = read_records(path, {"annotations": Annotation}, source)["annotations"]
    annotations = unique(annotations, _question_id, path, source)
    return {annotation.question_id: annotation for annotation in annotations}
