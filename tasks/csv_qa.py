"""CSV question answering: any table with an image, an instruction and a response in each row.

Nobody published a protocol for such tables, so the headline needs no program beside Python and
knows every script: ROUGE-L (https://aclanthology.org/W04-1013) over Unicode words. The other
figures are those of `tasks/metrics/text.py`.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import msgspec

from tasks.base import Dataset, Example, ImageRef, Scores, Source, Task, Turn
from tasks.cells import RowTexts
from tasks.checks import name_some
from tasks.column_guess import is_image_name
from tasks.hub import column_names, is_hub_copy, open_hub_copy
from tasks.hub_download import HubCopy
from tasks.image_marks import read_marks
from tasks.qa_columns import COLUMNS, columns_to_read, names_of_columns, optional_columns
from tasks.recurring import TAGS, with_recurring_tags
from tasks.table_columns import find_columns
from tasks.table_files import SPLIT_NAMES, Shards, Table, find_table, open_table
from tasks.table_images import (
    check_apart,
    find_images,
    is_url,
    local_names,
    names_of_rows,
    numbered,
)
from tasks.tables import Row as TableRow
from tasks.tables import note_line, read_rows
from tasks.text_scoring import score_texts
from tasks.webdataset import TEXT_ENDINGS, read_samples

logger = logging.getLogger(__name__)

_OPTIONS = {split: f"--{split}_csv (eval.py: --csv)" for split in SPLIT_NAMES}
_HUB_SPLITS = {"val": "validation"}


class Row(msgspec.Struct, frozen=True):
    """A row of a table; or, of several with one image and instruction, all their responses."""

    number: int
    images: tuple[ImageRef, ...]
    asked: Turn
    responses: tuple[str, ...]
    tags: dict[str, tuple[str, ...]] = {}


class HubRow(msgspec.Struct, frozen=True):
    """The texts of a row of a Hub copy."""

    instruction: Any
    response: Any


class CsvQa(Task):
    """Instructions about images, from the user's table, scored by ROUGE-L per example."""

    name = "csv_qa"
    aliases: ClassVar[tuple[str, ...]] = ("csv",)
    metric = "rouge_l"
    columns: ClassVar[tuple[str, ...]] = column_names(HubRow)
    metric_range = 1.0
    max_new_tokens = 128
    max_length = 512
    prompts: ClassVar = {"default": "{question}"}
    eval_splits = ("test", "val")
    selection_split = "val"  # a test table chooses no checkpoint
    rule = "ROUGE-L F-measure over Unicode words, the best reference, mean over examples"
    rule_source = "https://aclanthology.org/W04-1013"
    tags: ClassVar[tuple[str, ...]] = TAGS
    reads_tables = True
    table_columns: ClassVar = COLUMNS
    default_root: ClassVar[Path | None] = None  # of the tables, unless one is named

    def load(self, split: str, source: Source) -> Dataset:
        """Read the split's table, or a Hub copy with these columns; each row is an example."""
        self.check_split(split)
        if split not in source.tables and is_copy(source):
            wanted = f"{self.name} split '{split}'"
            rows = _hub_rows(self.with_columns(source), split, wanted)
        else:
            rows = self.table_rows(split, source)
        return Dataset(self, split, with_recurring_tags(self, self.grouped(rows)))

    def table_rows(self, split: str, source: Source) -> list[Row]:
        """Read the split's table, a Row for each of its own; see `load`."""
        source, wanted = self.with_columns(source), f"{self.name} split '{split}'"
        table = self._table(split, source, wanted)
        if isinstance(table, Shards):
            return _shard_rows(table, source)
        others = []
        for other in sorted({*self.splits} - {split}):
            with suppress(ValueError):  # reading its own split tells what is wrong with it
                if isinstance(found := self._table(other, source, wanted), Path):
                    others.append(found)
        return _table_rows(table, others, source, wanted)

    def with_columns(self, source: Source) -> Source:
        """Return the source with the task's own names of columns, where they are others."""
        return source

    def grouped(self, rows: Iterable[Row]) -> list[Row]:
        """Group the rows into examples: each is one by itself."""
        return list(rows)

    def example(self, row: Row) -> Example:
        """Ask the instruction as it stands."""
        return Example(
            example_id=row.number,
            image=row.images[0],
            further_images=row.images[1:],
            turns=(row.asked,),
            references=row.responses,
            tags=row.tags,
        )

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by ROUGE-L of each example, then by the other metrics of free text."""
        return score_texts(predictions, examples, headline=self.metric)

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by ROUGE-L alone."""
        from tasks.metrics.text import note_on_words, rouge_l

        references = [example.references for example in examples]
        values = rouge_l(predictions, references)
        notes = note_on_words(references)
        return Scores(values=values, metrics={self.metric: fmean(values)}, notes=notes)

    def _table(self, split: str, source: Source, wanted: str) -> Table:
        if path := source.tables.get(split):
            return open_table(path)
        return find_table(source.data_root or self.default_root, split, wanted, _OPTIONS[split])


def is_copy(source: Source) -> bool:
    """Return True where `datasets` reads this source; without a folder it is a table."""
    return source.hub_repo is not None or (source.data_root is not None and is_hub_copy(source))


def _hub_rows(source: Source, split: str, wanted: str) -> Iterable[Row]:
    if source.reading.question is not None:
        raise ValueError(
            "--question asks about the images of tables, and this is a data set of the Hub or one "
            "that was saved; name its column by --hub_columns instruction=COLUMN."
        )
    copy = HubCopy(source.hub_repo or "", _HUB_SPLITS.get(split, split))
    table = open_hub_copy(source, copy, wanted, COLUMNS)
    images, texts = table.images_of_rows(), RowTexts()
    for index, (row, own) in enumerate(zip(table.rows(HubRow), images, strict=True)):
        where = f"{table.name}, row {index}"
        question, responses = texts.read(row.instruction, row.response, where)
        yield Row(index, own, read_marks(question, len(own), where), responses)
    texts.report(table.name)


def _table_rows(path: Path, others: Sequence[Path], source: Source, wanted: str) -> list[Row]:
    rows = _read(path, source, columns_to_read(path, source))
    places = names_of_rows(rows, path, source.faults)
    images = find_images([*numbered(places)], path, source, wanted)
    _say_unasked(path, rows[0][1] if rows else {}, source)
    if path.stem == "metadata" and source.with_images:
        _say_unlisted(path, [image.name for image in images.values()])
    for other in others if source.with_images and any(map(is_url, images)) else ():
        try:
            plain = replace(source, faults=None)
            theirs = names_of_rows(_read(other, plain, ["image"]), other, None)
            names = local_names(numbered(theirs), other)
        except ValueError:
            continue  # reading its own split tells what is wrong with it
        check_apart(images, path, names, other, source)
    texts = RowTexts(needs_answers=source.reading.answers == "required")
    found = []
    for number, cells in rows:
        if number not in places:
            continue  # its fault is noted
        try:
            question = cells.get("instruction", source.reading.question)
            where = f"{path}, line {number}"
            question, responses = texts.read(question, cells.get("response"), where)
            asked = read_marks(question, len(places[number]), where)
        except ValueError as error:
            note_line(source.faults, path, number, error)
            continue
        own = tuple(images[place] for place in places[number])
        found.append(Row(number, own, asked, responses))
    texts.report(path)
    return found


def _shard_rows(shards: Shards, source: Source) -> list[Row]:
    columns = names_of_columns(source, ("instruction", "response"))
    columns["response"] += tuple(name for name in TEXT_ENDINGS if name not in columns["response"])
    is_needed = source.reading.answers == "required"
    optional = optional_columns(source) if is_needed else (*optional_columns(source), "response")
    texts, found = RowTexts(needs_answers=is_needed), []
    cells: dict[str, Any] = {}
    for sample in read_samples(shards.paths, source.faults):
        try:
            named = find_columns(sample.where, columns, list(sample.cells), optional)
            cells = {name: sample.cells[column] for name, column in named.items()}
            question = cells.get("instruction", source.reading.question)
            question, responses = texts.read(question, cells.get("response"), sample.where)
            asked = read_marks(question, len(sample.images), sample.where)
        except ValueError as error:
            note_line(source.faults, Path(sample.images[0].path), sample.number, error)
            continue
        found.append(Row(sample.number, sample.images, asked, responses))
    texts.report(shards)
    _say_unasked(shards, cells, source)
    return found


def _say_unasked(place: object, cells: Mapping[str, Any], source: Source) -> None:
    if source.reading.question is not None and "instruction" in cells:
        logger.warning("%s has a column of instructions, so --question is not asked.", place)


def _say_unlisted(path: Path, names: Iterable[str]) -> None:
    """Say which images beside the metadata of a folder have no row there."""
    there = [file for file in sorted(path.parent.iterdir()) if is_image_name(file.name)]
    known = {os.path.abspath(name) for name in names}
    if left := [file.name for file in there if os.path.abspath(file) not in known]:
        some = f"{len(left)} of the {len(there)} images beside it: {name_some(left)}"
        logger.warning("%s has no row for %s; they are left out.", path, some)


def _read(path: Path, source: Source, names: Iterable[str]) -> list[TableRow]:
    return read_rows(
        path,
        names_of_columns(source, names),
        lenient=source.reading.lenient,
        encoding=source.reading.encoding,
        optional=optional_columns(source),
        faults=source.faults,
    )
