"""Conversations about the frames of a camera, filled from a table of labels: people counted.

Three things make the data: a folder of frames; a CSV table with a row for each (`file`, `count`
and any further columns); and `messages.txt`, conversations of `user:` and `assistant:` lines, one
`system:` line before them if wanted, with a blank line between two, in which `{column}` stands for
the frame's cell and `{{` and `}}` for braces:

    user: How many people are there?
    assistant: There are {count} people.

Each conversation is held about each frame, and its last assistant turn is what is asked for and
scored: by the number in it, as counting is what such cameras are for, and as text.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from random import Random
from statistics import fmean, mean
from typing import Any, ClassVar, Literal

import msgspec

from tasks.base import Dataset, Example, MissingSplit, Scores, Source, Task, Turn
from tasks.cells import is_empty, text_cell
from tasks.checks import name_some
from tasks.column_guess import is_image_name
from tasks.counting import read_count
from tasks.images import FileImage
from tasks.records import note
from tasks.table_text import read_text
from tasks.tables import read_rows
from tasks.text_scoring import score_texts

logger = logging.getLogger(__name__)

Role = Literal["user", "assistant", "system"]
Conversation = tuple[tuple[Role, str], ...]

_ROLE = re.compile(r"(user|assistant|system)\s*:\s*(.*)", re.I)
_BRACES = re.compile(r"\{\{|\}\}|\{([^\W\d]\w*)\}")  # all that messages may use of str.format
_LABEL = re.compile(r"\d+(\.\d+)?", re.ASCII)
_FILE_COLUMNS = ("file", "file_name", "filename", "frame", "image")
_COUNT = "count"
_VAL_SHARE = 0.1


class Row(msgspec.Struct, frozen=True):
    """One conversation about one frame.

    Attributes:
        number: unique in the data.
        path: of the frame.
        turns: filled, the last of them the assistant's.
        count: the label, where the last turn says it; else None.
    """

    number: int
    path: str
    turns: tuple[Turn, ...]
    count: float | None


class FramesChat(Task):
    """Chats about frames, scored by how many counts are exact."""

    name = "frames_chat"
    aliases = ("frames",)
    metric = "count_accuracy"
    metric_range = 100.0
    max_new_tokens = 64
    max_length = 512
    prompts: ClassVar = {"default": "{question}"}
    tags = ("count",)
    own_files: ClassVar = {
        "frames": "Read the frames from this folder, for frames_chat.",
        "messages": "Read conversations with {column} in them from this file, for frames_chat "
        "[default: messages.txt].",
        "labels": "Read file, count and further columns from this CSV table, for frames_chat "
        "[default: labels.csv].",
    }
    rule = "share of the answers whose first number, in digits or words, is the label's count"

    def load(self, split: str, source: Source) -> Dataset:
        """Fill every conversation for every frame; a seeded tenth of the frames is `val`."""
        self.check_split(split)
        root = source.own_files.get("frames") or source.data_root
        if root is None:
            raise MissingSplit("frames_chat has no data without --frames: the folder of frames.")
        messages = self._file("messages", source, root)
        conversations = read_conversations(messages, source.reading.encoding)
        columns = sorted({name for talk in conversations for name in _columns(talk)} | {_COUNT})
        labels = self._file("labels", source, root)
        known = {"file": _FILE_COLUMNS} | {name: (name,) for name in columns}
        encoding = source.reading.encoding
        frames = read_rows(
            labels, known, encoding=encoding, has_options=False, faults=source.faults
        )
        named = _check_frames(frames, labels, root, may_lack=source.faults is not None)
        images = []
        if split == "train":  # of all frames, said once
            images = [path for path in sorted(root.glob("*")) if is_image_name(path.name)]
        if left := [path.name for path in images if os.path.normpath(path) not in named]:
            where, some = f"{len(left)} of the {len(images)} images in {root}", name_some(left)
            logger.warning("%s has no row for %s: left out are %s.", labels, where, some)
        order = list(range(len(frames)))
        Random(0).shuffle(order)
        num_val = max(1, round(_VAL_SHARE * len(order))) if len(order) > 1 else 0
        chosen = order[:num_val] if split == "val" else order[num_val:]
        if not chosen:
            raise MissingSplit(f"{labels} has one frame, so there is none left for '{split}'.")
        rows = []
        for index in sorted(chosen):
            for number, talk in enumerate(conversations):
                key = index * len(conversations) + number
                try:
                    rows.append(_fill(key, talk, frames[index], labels, root))
                except ValueError as error:
                    note(source, key, labels, error)
        return Dataset(self, split, rows)

    def example(self, row: Row) -> Example:
        """Ask for the last turn of the conversation."""
        *turns, answer = row.turns
        return Example(
            example_id=row.number,
            image=FileImage(row.path),
            turns=tuple(turns),
            references=(answer.text,),
            tags={} if row.count is None else {"count": (f"{row.count:g}",)},
            details=row.count,
        )

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by exact counts in percent, their mean absolute error, then the metrics of text."""
        counted = self.score_headline(predictions, examples)
        text = score_texts(predictions, examples, headline="rouge_l")
        return Scores(
            values=counted.values,
            metrics={**counted.metrics, **text.metrics},
            reasons={**counted.reasons, **text.reasons},
            notes=(*counted.notes, *text.notes),
            additions=text.additions,
        )

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by exact counts in percent and the mean absolute error of those with a number."""
        labels = [example.details for example in examples]
        found = [read_count(prediction) for prediction in predictions]
        values = [
            None if label is None else 100.0 * (number == label)
            for number, label in zip(found, labels, strict=True)
        ]
        errors = [
            abs(number - label)
            for number, label in zip(found, labels, strict=True)
            if label is not None and number is not None
        ]
        asked = [value for value in values if value is not None]
        metrics = {
            "count_accuracy": fmean(asked) if asked else None,
            "count_mae": mean(errors) if errors else None,  # fmean overflows at huge numbers
        }
        reasons = {name: "no answer was asked to hold the count" for name in metrics if not asked}
        if asked and not errors:
            reasons["count_mae"] = "no answer holds a number"
        silent = len(asked) - len(errors)
        note = f"{silent} of {len(asked)} answers hold no number; count_mae leaves them out."
        return Scores(
            values=values, metrics=metrics, reasons=reasons, notes=(note,) if silent else ()
        )

    def _file(self, name: str, source: Source, root: Path) -> Path:
        if name in source.own_files:
            return source.own_files[name]
        file_name = {"messages": "messages.txt", "labels": "labels.csv"}[name]
        for folder in (root, root.parent):
            if (folder / file_name).is_file():
                return folder / file_name
        raise MissingSplit(
            f"frames_chat: {file_name} is neither in {root} nor beside it; name it by --{name}."
        )


def read_conversations(path: Path, encoding: str | None = None) -> list[Conversation]:
    """Read the conversations of a messages file; a line without a role goes on with its turn.

    Args:
        path: of the file.
        encoding: where it has no byte order mark; None for UTF-8.

    Raises:
        ValueError: none is there, or one does not begin with a role, or end with the assistant,
            or has braces around anything but a name; says in which line.
    """
    found: list[Conversation] = []
    turns: list[tuple[Role, str]] = []
    start = 0
    lines = read_text(path, encoding).splitlines()
    for number, line in enumerate([*lines, ""], start=1):
        if re.search("[{}]", _BRACES.sub("", line)):
            raise ValueError(
                f"{path}, line {number}: braces hold a column's name, one word as in {{count}}, "
                f"and nothing else, got '{line.strip()}'; write {{{{ and }}}} for braces that are "
                "text."
            )
        if not line.strip():
            if turns:
                found.append(_checked(turns, path, start))
            turns = []
        elif match := _ROLE.match(line.strip()):
            start = start if turns else number
            turns.append((match[1].lower(), match[2].strip()))  # type: ignore[arg-type]
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line.strip()}")
        else:
            raise ValueError(
                f"{path}, line {number}: a conversation begins with 'user:', got '{line.strip()}'."
            )
    if not found:
        raise ValueError(f"{path} holds no conversation; write lines of 'user:' and 'assistant:'.")
    return found


def _checked(turns: Sequence[tuple[Role, str]], path: Path, line: int) -> Conversation:
    roles = [role for role, _ in turns]
    if empty := [role for role, text in turns if not text]:
        raise ValueError(f"{path}, line {line}: a turn of {empty[0]} is empty; write its text.")
    talk = roles[1:] if roles[0] == "system" else roles
    if talk != ["user", "assistant"] * (len(talk) // 2) or not talk:
        raise ValueError(
            f"{path}, line {line}: user and assistant must take turns, the user first and the "
            f"assistant last, with at most one system turn before them; here they are "
            f"{', '.join(roles)}."
        )
    return tuple(turns)


def _columns(conversation: Conversation) -> set[str]:
    """The columns that a conversation needs."""
    return {name for _, text in conversation for name in _BRACES.findall(text) if name}


def _check_frames(
    frames: Sequence[tuple[int, Mapping[str, Any]]], labels: Path, folder: Path, may_lack: bool
) -> Collection[str]:
    files = [cells["file"] for _, cells in frames]
    names = [str(file).strip() for file in files if not is_empty(file)]  # its row says the others
    paths = [os.path.normpath(folder / name) for name in names]  # ./0.png is 0.png
    rows = Counter(paths)
    twice = list(dict.fromkeys(n for n, path in zip(names, paths, strict=True) if rows[path] > 1))
    if twice:
        raise ValueError(f"{labels} has {name_some(twice)} more than once; give a frame one row.")
    missing = [name for name in names if not os.path.isfile(folder / name)]
    if missing and not may_lack:
        raise ValueError(
            f"{len(missing)} of the {len(names)} frames of {labels} are not in {folder}: "
            f"{name_some(missing)}."
        )
    return rows


def _fill(
    number: int,
    conversation: Conversation,
    frame: tuple[int, Mapping[str, Any]],
    labels: Path,
    root: Path,
) -> Row:
    line, cells = frame
    texts = {
        name: text_cell(cell, f"{labels}, line {line}, column {name}")
        for name, cell in cells.items()
    }
    # strict: a reading in place of the label is no truth
    count = float(texts[_COUNT]) if _LABEL.fullmatch(texts[_COUNT]) else inf
    if not isfinite(count):
        raise ValueError(
            f"{labels}, line {line}: count is '{texts[_COUNT]}', not a finite number of 0 or more; "
            "correct the cell."
        )
    says_count = _COUNT in _columns(conversation[-1:])
    answer = conversation[-1][1].format(**texts)
    if says_count and read_count(answer) != count:
        raise ValueError(
            f"{labels}, line {line}: the number that is read from the answer {answer!r} is not its "
            f"count, {count:g}; let {{count}} be the first number, in digits or words, of the "
            "answer in the messages."
        )
    return Row(
        number=number,
        path=str(root / texts["file"]),
        turns=tuple(Turn(role, text.format(**texts)) for role, text in conversation),
        count=count if says_count else None,
    )
