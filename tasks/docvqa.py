"""DocVQA (SP-DocVQA, task 1): questions about scanned pages, answered by text on them.

Files: https://rrc.cvc.uab.es/?ch=17&com=downloads. Prompt and answer sampling: the PaliGemma
transfer, big_vision/configs/proj/paligemma/transfers/docvqa.py.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar

import msgspec

from tasks.base import (
    Dataset,
    Example,
    ImageRef,
    Scores,
    Source,
    Task,
    Turn,
)
from tasks.files import find_files, image_finder, local_root
from tasks.hub import column_names, is_hub_copy, open_hub_copy
from tasks.hub_download import HubCopy
from tasks.records import read_records, unique, with_inner_images

_HUB = {  # the copy that is scored on has no training split
    "train": HubCopy("HuggingFaceM4/DocumentVQA", "train"),
    "val": HubCopy("lmms-lab/DocVQA", "validation", "DocVQA"),
    "test": HubCopy("lmms-lab/DocVQA", "test", "DocVQA"),
}
_COLUMNS = {"questionId": ("questionId", "question_id")}


class Question(msgspec.Struct, frozen=True):
    """A record of the official file."""

    id: int = msgspec.field(name="questionId")
    question: str
    answers: tuple[str, ...] | None = None  # withheld on test
    question_types: tuple[str, ...] | None = None  # only in the files named `_withQT`


class ImageQuestion(Question, frozen=True, kw_only=True):
    """A record with the file name of its page."""

    image: str


class Row(msgspec.Struct, frozen=True):
    """A question and its page."""

    question: Question
    image: ImageRef


class DocVqa(Task):
    """Question answering on document pages, scored by ANLS."""

    name = "docvqa"
    metric = "anls"
    columns = column_names(Question)
    metric_range = 1.0
    max_new_tokens = 64
    max_length = 256
    prompts: ClassVar = {"default": "{question}"}
    hidden_splits = ("test",)
    official_files = r"(train|val|test)_v1\.0(_withQT)?\.json"
    rule = "ANLS, threshold 0.5 (kept at exactly 0.5), lengths of the raw strings"
    rule_source = "https://rrc.cvc.uab.es/?ch=17&com=tasks, the portal's own script"
    result_keys = ("questionId", "answer")
    tags = ("question_type",)

    def load(self, split: str, source: Source) -> Dataset:
        """Read the official file or a Hub copy."""
        self.check_split(split)
        wanted = f"docvqa split '{split}'"
        if not is_hub_copy(source):
            return Dataset(self, split, _official_rows(source, split, wanted))
        table = open_hub_copy(source, _HUB[split], wanted, _COLUMNS)
        image = table.images()
        rows = [Row(q, image(index)) for index, q in enumerate(table.rows(Question))]
        return Dataset(self, split, rows)

    def example(self, row: Row) -> Example:
        """Make the example of a question."""
        question = row.question
        return Example(
            example_id=question.id,
            image=row.image,
            turns=(Turn("user", question.question),),
            references=question.answers or (),
            tags={"question_type": question.question_types or ()},
        )

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score from 0 to 1: ANLS, and beside it the share of exact matches."""
        from tasks.metrics.anls import anls, exact_match

        pairs = [(p, e.references) for p, e in zip(predictions, examples, strict=True)]
        values = [anls(prediction, answers) for prediction, answers in pairs]
        accuracy = fmean(exact_match(prediction, answers) for prediction, answers in pairs)
        return Scores(values=values, metrics={"anls": fmean(values), "accuracy": accuracy})

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain by the edit distance to the nearest answer."""
        from tasks.metrics.anls import explain

        return explain(prediction, references)

    def lenient(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Score by ANLS without its threshold, which gives credit to unlike strings."""
        from tasks.metrics.anls import anls

        pairs = zip(predictions, examples, strict=True)
        return {"anls_without_threshold": fmean(anls(p, e.references, 0.0) for p, e in pairs)}


def _official_rows(source: Source, split: str, wanted: str) -> list[Row]:
    names = [f"{split}_v1.0_withQT.json", f"{split}_v1.0.json"]
    patterns = names + [f"spdocvqa_qas/{name}" for name in names]
    (path,) = find_files(local_root(source), patterns, wanted)
    questions = read_records(path, {"data": ImageQuestion}, source)["data"]
    questions = unique(questions, lambda question: question.id, path, source)
    questions = with_inner_images(questions, lambda q: q.image, lambda q: q.id, path, source)
    # the files say `documents/x.png`, whatever the folder is called in this layout
    page_names = [question.image.rpartition("/")[2] for question in questions]
    folders = ("spdocvqa_images", f"{split}/documents", "documents", split, "images")
    image = image_finder(source, folders, page_names)
    return [Row(q, image(name)) for q, name in zip(questions, page_names, strict=True)]
