"""Conversations about images as other tools keep them: LLaVA, ShareGPT, chat messages.

All turns of the assistant are learned, each with the token that ends it; nothing else is. The last
one is the answer that is asked for and scored, as free text in the way of `csv_qa`: nobody
published a protocol for such data either.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import msgspec

from tasks.base import Dataset, Example, ImageRef, MissingSplit, Source, Turn
from tasks.checks import name_some
from tasks.conversation_files import SUFFIXES, Record, read_file, read_table
from tasks.conversation_turns import Conversation, read_conversation
from tasks.csv_qa import CsvQa, is_copy
from tasks.hub import open_hub_copy
from tasks.hub_download import HubCopy
from tasks.images import UnusableImage
from tasks.recurring import with_recurring_tags
from tasks.table_files import SPLIT_NAMES, first_of
from tasks.table_images import check_apart, find_images, is_url, local_names
from tasks.tables import note_line

logger = logging.getLogger(__name__)


class Row(msgspec.Struct, frozen=True):
    """A conversation, its place in the file and its images."""

    number: int
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...]
    tags: dict[str, tuple[str, ...]] = {}


class _Found(NamedTuple):
    """A record and the conversation that it holds."""

    record: Record
    talk: Conversation


class Conversations(CsvQa):
    """Conversations about images, the last answer scored by ROUGE-L per example."""

    name = "conversations"
    aliases: ClassVar[tuple[str, ...]] = ("chat", "llava", "sharegpt", "messages")
    columns: ClassVar[tuple[str, ...]] = ("messages", "image", "images", "system")
    max_new_tokens = 256
    max_length = 2048  # as LLaVA 1.5 was trained
    table_columns: ClassVar[dict[str, tuple[str, ...]]] = {}  # none: they are no tables

    def load(self, split: str, source: Source) -> Dataset:
        """Read the split's file, or a Hub copy with such columns; each record is an example."""
        self.check_split(split)
        self._check_options(source)
        wanted = f"{self.name} split '{split}'"
        others: list[Path] = []
        if split not in source.tables and is_copy(source):
            copy = HubCopy(source.hub_repo or "", "validation" if split == "val" else split)
            table = open_hub_copy(source, copy, wanted)
            path, records = Path(table.name), read_table(table)
        else:
            path = _find_file(split, source, wanted)
            for other in sorted({*self.splits} - {split}):
                with suppress(MissingSplit):
                    others.append(_find_file(other, source, wanted))
            records = read_file(path, source.columns, source.faults)
        found = _with_answers(
            list(_read(records, path, source)), path, source, must=split in self.train_splits
        )
        if not (found or source.faults):
            raise ValueError(f"{path} has no conversations; each must be one example.")
        _report_moved(found, path)
        images = _images(found, path, others, source, wanted)
        rows = [Row(entry.record.number, entry.talk.turns, own) for entry, own in images]
        return Dataset(self, split, with_recurring_tags(self, rows))

    def example(self, row: Row) -> Example:  # type: ignore[override]
        """Ask for the last turn of the assistant."""
        *turns, last = row.turns
        is_answer = last.role == "assistant"
        return Example(
            example_id=row.number,
            image=row.images[0],
            further_images=row.images[1:],
            turns=tuple(turns) if is_answer else row.turns,
            references=(last.text,) if is_answer else (),
            tags=row.tags,
        )

    def _check_options(self, source: Source) -> None:
        """Refuse options of tables that would change nothing."""
        idle = [f"--{name}_column" for name in source.columns if name not in self.columns]
        reading = source.reading
        given = {"csv_lenient": reading.lenient, "question": reading.question}
        given["encoding"] = reading.encoding
        idle += [f"--{name}" for name, value in given.items() if value]
        if idle:
            raise ValueError(
                f"{' and '.join(idle)} would change nothing: {self.name} are JSON in UTF-8 or "
                "Parquet, with keys of their own; leave it out."
            )


def _find_file(split: str, source: Source, wanted: str) -> Path:
    """Return the file of a split: the one that is named, or one in the folder by its name."""
    if path := source.tables.get(split):
        return path
    option = f"--{split}_file (eval.py: --file)"
    if source.data_root is None:
        raise MissingSplit(f"No file of {wanted}: name it by {option}.")
    names = [f"{stem}{suffix}" for stem in SPLIT_NAMES[split] for suffix in SUFFIXES]
    if found := [path for name in names if (path := source.data_root / name).is_file()]:
        return Path(str(first_of(found, option)))
    raise MissingSplit(
        f"No file of {wanted} under {source.data_root}: looked for {', '.join(names)}; name it by "
        f"{option}."
    )


def _read(records: Iterable[Record], path: Path, source: Source) -> Iterable[_Found]:
    for record in records:
        try:
            talk = read_conversation(record.content, source.columns, record.where)
        except ValueError as error:
            note_line(source.faults, path, record.number, error)
            continue
        yield _Found(record._replace(content={}), talk)  # which may hold whole images


def _with_answers(
    found: Sequence[_Found], path: Path, source: Source, must: bool
) -> Sequence[_Found]:
    """Return the conversations that have an answer; all of them where none has and none must."""
    without = [entry.record for entry in found if not entry.talk.has_answer]
    if not without or (not must and len(without) == len(found)):
        return found
    error = ValueError(
        f"{len(without)} of {len(found)} conversations of {path} end without an answer of the "
        f"assistant ({name_some([record.place for record in without])}); write the answers, or "
        "keep these in a separate file, which eval.py answers without a score."
    )
    for record in without:
        note_line(source.faults, path, record.number, error)
    return [entry for entry in found if entry.talk.has_answer]


def _report_moved(found: Sequence[_Found], path: Path) -> None:
    moved = [entry.record.place for entry in found if entry.talk.is_moved]
    if moved:
        logger.warning(
            "%s: in %d of %d conversations the image stands inside a text, and is shown "
            "before the text here, as LLaVA does: %s.",
            *(path, len(moved), len(found), name_some(moved)),
        )


def _images(
    found: Sequence[_Found], path: Path, others: Sequence[Path], source: Source, wanted: str
) -> Iterable[tuple[_Found, tuple[ImageRef, ...]]]:
    """Yield each conversation with its images."""
    unit = found[0].record.place.partition(" ")[0] if found else "line"
    known = find_images([*_places(found)], path, source, wanted, unit)
    for other in others if source.with_images and any(map(is_url, known)) else ():
        try:
            plain = replace(source, faults=None)
            theirs = _read(read_file(other, source.columns, None), other, plain)
            names = local_names(_places(theirs), other)
        except ValueError:
            continue  # reading its own split tells what is wrong with it
        check_apart(known, path, names, other, source)
    for entry in found:
        images = tuple(known[i] if isinstance(i, str) else i for i in entry.talk.images)
        where = entry.record.where
        yield (
            entry,
            images or (UnusableImage(where, "shows no image, and each example needs one."),),
        )


def _places(found: Iterable[_Found]) -> Iterable[tuple[int, str]]:
    """Yield the paths and URLs of images, each with the number of its record."""
    for entry in found:
        for image in entry.talk.images:
            if isinstance(image, str):
                yield entry.record.number, image
