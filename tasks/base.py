"""The vocabulary of every task: Example, Dataset, Scores and the Task class itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, Protocol

import msgspec
from PIL import Image

from tasks.answer_choice import AnswerSampling, choose_answer
from tasks.cleaning import clean_text
from tasks.faults import Fault
from tasks.table_reading import TableReading


class ImageRef(Hashable, Protocol):
    """An image that is not read before it is opened; equal ones are one image."""

    @property
    def name(self) -> str:
        """Return the name in error messages."""
        ...

    def open(self) -> Image.Image:
        """Decode the image, its own size: RGB, or L where it is grey."""
        ...

    def dimensions(self) -> tuple[int, int]:
        """Return width and height as its header has them; a photo may be turned when decoded."""
        ...


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One message of a conversation; plain text without template or special token.

    Attributes:
        text: what is said.
        places: where the example's next images stand, by characters of the text; where no turn
            has any, all stand before the user's first text.
    """

    role: Literal["user", "assistant", "system"]
    text: str
    places: tuple[int, ...] = ()


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One image or several, what is asked about them, and every accepted answer.

    Attributes:
        example_id: unique in its split.
        image: the first image.
        turns: the conversation up to the answer; a plain question is one user turn.
        references: accepted answers, as published; empty on a split whose answers are withheld.
        tags: what breakdowns group by, e.g. `{"answer_type": ("number",)}`; an example counts
            under each of its values.
        details: what only this task's metric needs (GQA's groups and entailed questions).
        further_images: those behind the first.
    """

    example_id: int | str
    image: ImageRef
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]] = {}
    details: Any = None
    further_images: tuple[ImageRef, ...] = ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Return all images in their order."""
        return (self.image, *self.further_images)


class Dataset(Sequence[Example]):
    """Rows of one split; an Example is made when it is asked for.

    Args:
        task: makes examples of rows.
        split: its name.
        rows: what the task's `example` takes.
        official_name: what the files call it, as `val2014`, where that is not the split's name.
        skipped: examples that were left out.
    """

    def __init__(
        self,
        task: "Task",
        split: str,
        rows: Sequence[Any],
        official_name: str | None = None,
        skipped: Sequence[Fault] = (),
    ) -> None:
        self.task = task
        self.split = split
        self.rows = rows
        self.official_name = official_name or split
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """The example of a row; of a slice the smaller Dataset."""
        if isinstance(index, slice):
            return self._with_rows(self.rows[index])
        return self.task.example(self.rows[index])

    def __iter__(self) -> Iterator[Example]:
        """Make one example after the other."""
        return (self.task.example(row) for row in self.rows)

    def subset(self, num_examples: int | None, seed: int) -> "Dataset":
        """Draw `num_examples` rows, in their old order; all of them where that is fewer or None."""
        if num_examples is not None and num_examples < 1:
            raise ValueError(f"The number of examples must be 1 or more, got {num_examples}.")
        if num_examples is None or num_examples >= len(self.rows):
            return self
        chosen = Random(seed).sample(range(len(self.rows)), num_examples)
        return self._with_rows([self.rows[i] for i in sorted(chosen)])

    def leave_out(self, faults: Sequence[Fault]) -> "Dataset":
        """Return the split without the examples of these faults, which `skipped` then lists."""
        ids = {fault.id for fault in faults}
        rows = [row for row in self.rows if self.task.example(row).example_id not in ids]
        return Dataset(self.task, self.split, rows, self.official_name, faults)

    def _with_rows(self, rows: Sequence[Any]) -> "Dataset":
        return Dataset(self.task, self.split, rows, self.official_name, self.skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The metrics of a split.

    Attributes:
        values: the headline metric of each example, whose mean is the headline; None for one that
            no figure counts by itself (GQA's unbalanced questions).
        metrics: figures by their official names, the headline first; None where there is none.
        reasons: for each None in `metrics`, why.
        notes: sentences that must stand beside the figures ("approximate: no Java").
        additions: other entries of metrics.json.
    """

    values: Sequence[float | None]
    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    additions: Mapping[str, Any] = field(default_factory=dict)


class MissingSplit(ValueError):
    """The files of a split are not there (they may be for another split)."""


class Task(ABC):
    """One dataset: how it is read, asked, answered and scored.

    Complete with attributes, `load`, `example`, `score`; known by `tasks/registry.py`.
    """

    name: ClassVar[str]  # = file name = value of --task
    aliases: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str]  # the headline; higher is better
    metric_range: ClassVar[float]  # its best value: 1, 100, or 10 for CIDEr; the least is 0
    max_new_tokens: ClassVar[int]
    num_beams: ClassVar[int] = 1
    max_length: ClassVar[int] = 64  # text budget in tokens: prompt and answer, image not counted
    prompts: ClassVar[Mapping[str, str]]  # model family -> template, and "default"
    train_splits: ClassVar[tuple[str, ...]] = ("train",)  # the default first
    eval_splits: ClassVar[tuple[str, ...]] = ("val",)  # the default first
    hidden_splits: ClassVar[tuple[str, ...]] = ()  # answers withheld: predict only
    rule: ClassVar[str | None] = None  # what the metric does, in a few words
    rule_source: ClassVar[str | None] = None  # where that is laid down
    id_type: ClassVar[type[int] | type[str]] = int
    result_keys: ClassVar[tuple[str, str]] = ("id", "prediction")  # of the leaderboard's records
    tags: ClassVar[tuple[str, ...]] = ()  # the tag names that a report breaks the score down by
    needs_data: ClassVar[bool] = True  # False where the data comes with an installed package
    image_terms: ClassVar[str | None] = None  # source and licence, where images may be passed on
    reads_tables: ClassVar[bool] = False  # the user names them: --train_csv, --val_csv, --csv
    table_columns: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # ours -> those in known tables
    official_files: ClassVar[str] = ""  # a regex of the names of files with questions
    columns: ClassVar[tuple[str, ...]] = ()  # names that --hub_columns gives to others
    own_files: ClassVar[Mapping[str, str]] = {}  # further options that name a file -> their help
    selection_split: ClassVar[str | None] = None  # scored during training, where not the default

    @abstractmethod
    def load(self, split: str, source: "Source") -> Dataset:
        """Read one split. The only method that touches disk or network; opens no image.

        Raises:
            MissingSplit: the split's files are not there; says where it looked.
            ValueError: a file is there but cannot be right; names the file and the place in it.
        """

    @abstractmethod
    def example(self, row: Any) -> Example:
        """Make the example of one row; pure."""

    @abstractmethod
    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score a whole split by the official rule; opens no image."""

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by the headline alone, where that is quicker: for scoring on the way."""
        return self.score(predictions, examples)

    def lenient(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Score by common unofficial rules, under other names; by none unless overridden."""
        return {}

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain a prediction's score, a line each; by nothing where it explains itself."""
        return ()

    def load_to_score(self, split: str, source: "Source", answered: Collection[Any]) -> Dataset:
        """Load the examples that predictions of a file are scored on.

        Args:
            split: as in `load`.
            source: as in `load`, mostly without images.
            answered: the ids that the file has predictions for.
        """
        return self.load(split, source)

    def results_name(self, dataset: Dataset) -> str:
        """Return the file name under which the leaderboard takes results."""
        return f"{self.name}_{dataset.official_name}_results.json"

    def clean(self, raw: str) -> str:
        """Return the part of a generated text that the metric scores."""
        return clean_text(raw)

    def prompt(self, *families: str) -> str:
        """Return the template of the first of these model families that has one."""
        return next(self.prompts[n] for n in (*families, "default") if n in self.prompts)

    def target(
        self, example: Example, epoch: int, seed: int, sampling: AnswerSampling = "published"
    ) -> str:
        """Return the answer to train on, as `choose_answer` does."""
        if not example.references:
            raise ValueError(
                f"{self.name} example {example.example_id} has no answer to train on; "
                f"splits with answers are {', '.join(self.train_splits + self.eval_splits)}."
            )
        return choose_answer(example.references, example.example_id, epoch, seed, sampling)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return every split name, in the order in which `--help` and errors list them."""
        return tuple(dict.fromkeys(self.train_splits + self.eval_splits + self.hidden_splits))

    def check_split(self, split: str) -> None:
        """Raise ValueError unless the task has this split."""
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has no split '{split}'; its splits are {', '.join(self.splits)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The place of data: a local folder, or else a Hub copy.

    Attributes:
        data_root: folder of official files or written by `save_to_disk`; None for the Hub.
        hub_repo, hub_config, hub_split, hub_revision: override the task's Hub copy.
        columns: the task's own name of a column -> its name in that copy or table.
        tables: split -> its table, of tasks that read tables.
        own_files: name -> file or folder, of tasks with `own_files`.
        reading: how tables are read.
        with_images, skips_images: whether images must be there, and a table's missing ones skipped.
        faults: takes the faults of single records, which are errors where it is None.
    """

    data_root: Path | None = None
    hub_repo: str | None = None
    hub_config: str | None = None
    hub_split: str | None = None
    hub_revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Path] = field(default_factory=dict)
    own_files: Mapping[str, Path] = field(default_factory=dict)
    reading: TableReading = field(default_factory=TableReading)
    with_images: bool = True
    skips_images: bool = False
    faults: list[Fault] | None = None


@dataclass(frozen=True, slots=True)
class TaskSource:
    """A task and the source of its data."""

    task: "Task"
    source: Source
