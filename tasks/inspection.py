"""The answer of `palitune inspect`: what a file or a folder is, and what to type to use it."""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.user_code import code_of
from tasks.base import Task
from tasks.registry import get_task, known_tasks
from tasks.tables import csv_line

# at the defaults it learns little
_TINY = ("--model_path", "tiny", "--learning_rate", "5e-3", "--batch_size", 32, "--max_steps", 100)
_WIDTH = 60
_SHORT, _SHORT_METRIC = 3, "exact_match"  # words of an answer that is right or wrong
OURS = ("image", "instruction", "response")
# what responses are called where nothing is asked of each image, and in shards
_CAPTIONS = ("caption", "captions", "text", "txt", "cls")


class Inspection(msgspec.Struct, kw_only=True):
    """A description.

    Attributes:
        what: the kind, in a few words.
        facts: lines of what is in it: a name and what there is to say.
        rows: its first rows, shortened.
        commands: what to type, each whole.
        notes: sentences on what must be done before.
    """

    what: str
    facts: list[tuple[str, str]] = []
    rows: list[str] = []
    commands: list[str] = []
    notes: list[str] = []


Kind = Callable[[Path], Inspection | None]  # None where the path is not of this kind


class Mapped(msgspec.Struct, frozen=True):
    """The columns that a task would read.

    Attributes:
        task: its name; None where a column is missing.
        columns: our name -> theirs.
        left: theirs that nothing reads.
        asks: whether a question for every image must be given.
        metric: one that suits the answers better than the task's own; None where that suits.
        guessed: those of our columns that no name told, but what stands in them.
    """

    task: str | None
    columns: dict[str, str]
    left: list[str]
    asks: bool
    metric: str | None = None
    guessed: Collection[str] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Return a line for each of our columns, and one for those left."""
        found = [
            (
                ours,
                f"column {shown(name)}{', as its cells tell' if ours in self.guessed else ''}",
            )
            for ours, name in self.columns.items()
        ]
        if self.left:
            found.append(("left", ", ".join(map(shown, self.left[:12]))))
        return found

    def renamed(self) -> list[tuple[str, str]]:
        """Return our names and theirs of those columns that the task does not know by itself."""
        known = {} if self.task is None else get_task(self.task).table_columns
        return [
            (ours, column) for ours, column in self.columns.items() if column not in known[ours]
        ]

    def options(self) -> list[str]:
        """Return the options that a table needs besides its own."""
        words = [word for ours, name in self.renamed() for word in (f"--{ours}_column", name)]
        return [*words, "--question", "Describe the image."] if self.asks else words

    def training_options(self) -> list[str]:
        """Return the options of a training besides these."""
        return [] if self.metric is None else ["--metric", self.metric]


def map_columns(
    present: Sequence[str], *, guessed: Mapping[str, str] = {}, answers: Sequence[Any] = ()
) -> Mapped:
    """Guess which columns are the image, the question and the answer, and which task reads them.

    Args:
        present: the columns.
        guessed: our names -> columns that no name tells.
        answers: the first ones. Several to a question are for an accuracy that knows what to make
            of them; answers of a few words are right or wrong, not more or less alike.
    """
    readers = [task for task in known_tasks() if task.table_columns]
    by_name = {column.strip().lower(): column for column in reversed(present)}
    found = {}
    for ours in OURS:
        names = [name for task in readers for name in task.table_columns.get(ours, ())]
        names += _CAPTIONS if ours == "response" else ()
        if guess := [name for name in names if name in by_name]:
            found[ours] = by_name[guess[0]]
    found = {ours: column for ours in OURS if (column := found.get(ours, guessed.get(ours)))}
    left = [column for column in present if column not in found.values()]
    if not {"image", "response"} <= found.keys():
        return Mapped(None, found, left, asks=False, guessed=guessed)

    def fits(task: Task) -> tuple[bool, int, int]:
        """Whether the metric suits, how many columns are known, how near to the first names."""
        known = [(task.table_columns.get(ours, ()), name) for ours, name in found.items()]
        places = [names.index(name) for names, name in known if name in names]
        suits = any(isinstance(answer, list) for answer in answers) == _is_accuracy(task)
        return suits, len(places), -sum(places)

    best = max(readers, key=fits)
    texts = [answer for answer in answers if isinstance(answer, str)]
    is_short = bool(texts) and max(len(text.split()) for text in texts) <= _SHORT
    metric = _SHORT_METRIC if is_short and not _is_accuracy(best) else None
    asks = "instruction" not in found
    return Mapped(best.name, found, left, asks=asks, metric=metric, guessed=guessed)


def _is_accuracy(task: Task) -> bool:
    return "accuracy" in task.metric


def missing_note(mapped: Mapped) -> str:
    """Return the sentence on the columns that no name tells."""
    lacking = [name for name in ("image", "response") if name not in mapped.columns]
    options = " and ".join(f"--{name}_column" for name in lacking)
    which = "says which one is meant" if len(lacking) == 1 else "say which ones are meant"
    asking = (
        "" if "instruction" in mapped.columns else ", as --instruction_column does of questions"
    )
    reader = next(task.name for task in known_tasks() if task.table_columns)
    return (
        f"No column is known as the {' or the '.join(lacking)}; {reader} reads the table if "
        f"{options} {which}{asking}."
    )


def shown(value: Any) -> str:
    """Return a value on one short line in which nothing acts on a terminal."""
    text = value if isinstance(value, str) else _as_json(value)
    safe = printable(text)
    return safe if len(safe) <= _WIDTH else f"{safe[: _WIDTH - 1]}…"


def printable(text: str) -> str:
    """Return a text in which each control character stands as Python writes it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_json(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        value = {k: f"{len(v)} bytes" if isinstance(v, bytes) else v for k, v in value.items()}
    try:
        return (
            csv_line([value]).decode().strip()
            if isinstance(value, float)
            else (msgspec.json.encode(value).decode())
        )
    except (TypeError, ValueError):
        return str(value)


def row_line(number: int, cells: Mapping[str, Any]) -> str:
    """Return a row: its number and its cells."""
    return f"{number}  " + " | ".join(shown(cell) for cell in cells.values())


def use_commands(task: str, where: Mapping[str, Sequence[object]]) -> list[str]:
    """Return the commands that check, show and train on a data set, with the embedded model.

    Args:
        task: its name.
        where: `train` and `other` -> the words that name the data to a training and to the others.
    """
    code = code_of(type(get_task(task)))
    own = ["--task_module", code.name] if code else []
    return [
        command("check", "--task", task, *own, *where["other"]),
        command("preview", "--task", task, *own, *where["other"], "--model_path", "tiny"),
        command("train", task, *own, *where["train"], *_TINY),
    ]


def command(*words: object) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(["palitune", *map(str, words)])
