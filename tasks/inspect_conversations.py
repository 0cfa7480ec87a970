"""Files of conversations looked at: how many, how long, and where their images are looked for."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from tasks.conversation_files import SUFFIXES, read_file
from tasks.conversation_turns import NAMES, read_conversation
from tasks.faults import Fault
from tasks.image_marks import marked
from tasks.inspection import Inspection, command, shown, use_commands
from tasks.table_peek import peek_table

_NUM_ROWS = 3


def inspect_conversations(path: Path) -> Inspection | None:
    """Describe a file with `conversations` or `messages`; opens no image."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in SUFFIXES:
        return None
    if suffix == ".parquet":  # by its head: reading it as a data set would write a copy
        peek = peek_table(path)
        if peek is None or not _has_talk(peek.columns):
            return None
    unread: list[Fault] = []
    records = read_file(path, {}, unread)
    try:
        first = next(records, None)
    except ValueError:
        return None  # the other kinds say what is wrong with it
    if first is None or not _has_talk(first.content):
        return None
    turns, images = Counter[int](), Counter[int]()
    faults: list[str] = []
    rows: list[str] = []
    for record in chain([first], records):
        try:
            talk = read_conversation(record.content, {}, record.where)
        except ValueError as error:
            faults.append(str(error))
            continue
        turns[sum(turn.role == "assistant" for turn in talk.turns)] += 1
        images[len(talk.images)] += 1
        if len(rows) < _NUM_ROWS:
            rows.append(
                f"{record.place}  " + " | ".join(shown(marked(turn)) for turn in talk.turns)
            )
    facts = [
        ("conversations", f"{turns.total() + len(faults):,}"),
        ("answers in each", _counts(turns)),
        ("images in each", _counts(images)),
    ]
    faults += [fault.reason for fault in unread]
    found = Inspection(what="conversations", facts=facts, rows=rows, notes=faults[:_NUM_ROWS])
    if faults:
        found.notes.append(f"{len(faults)} cannot be read; `palitune check` lists them all.")
    words: dict[str, list[object]] = {"train": ["--train_file", path], "other": ["--file", path]}
    found.commands = use_commands("conversations", words)
    if max(turns, default=0) > 1:  # PaliGemma, and so `tiny`, takes one turn
        found.commands = [
            command("check", "--task", "conversations", *words["other"]),
            command("train", "conversations", *words["train"]),
        ]
    return found


def _has_talk(keys: Iterable[str]) -> bool:
    return not set(NAMES["messages"]).isdisjoint(keys)


def _counts(numbers: Counter[int]) -> str:
    return ", ".join(f"{number} ({n:,} x)" for number, n in islice(sorted(numbers.items()), 5))
