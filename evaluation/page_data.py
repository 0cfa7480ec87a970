"""The values of a report's page, which its script draws."""

from collections.abc import Sequence
from typing import Any

import msgspec

from evaluation.training_log import Curves, ScoreCurve
from tasks.metrics.uncertainty import Uncertainty

Interval = tuple[float, float] | None
Counts = list[tuple[str, int]]
Figures = dict[str, float | None]


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of predictions.jsonl."""

    id: int | str
    prompt: str | None
    raw_prediction: str
    prediction: str
    references: tuple[str, ...]
    score: float | None
    question: str = ""
    image: str | None = None
    tags: dict[str, tuple[str, ...]] = {}
    images: Sequence[str] = ()  # all of them, where there are several


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The part of metrics.json that a page shows."""

    task: str
    split: str
    metric: str
    value: float | None
    num_examples: int
    num_questions_read: int | None = None  # where not all of them count
    metrics: Figures
    uncertainty: Uncertainty | None = None
    reasons: dict[str, str] = {}
    notes: list[str] = []
    baselines: dict[str, dict[str, Any]] = {}
    lenient: Figures = {}
    text_metrics: Figures = {}
    clip_metrics: Figures = {}
    provenance: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer of one run to an example; `working` says how its score came about."""

    prompt: str | None
    raw: str
    prediction: str
    score: float | None
    working: tuple[str, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An example; `image` is a place in the page's images, `file` a relative link to its own."""

    id: int | str
    question: str
    references: Counts
    tags: dict[str, tuple[str, ...]]
    image: int | None
    file: str | None
    answers: list[Answer]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The change of the scores since the first run, as `compare` measures it."""

    difference: float
    interval: Interval
    num_rose: int
    num_fell: int
    num_stayed: int


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """The score of a baseline; `about` says what it is of, where its name does not."""

    name: str
    value: float
    interval: Interval
    about: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: its figures as in metrics.json, and its answers at large.

    Attributes:
        name: a letter.
        model: what answered, in a few words; empty where nothing says it.
        reasons: why a figure is None.
        extra: groups of figures beside the official ones, by their names.
        baselines: none where they were not measured.
    """

    name: str
    folder: str
    value: float | None
    interval: Interval
    num_examples: int
    metrics: Figures
    reasons: dict[str, str]
    extra: dict[str, Figures]
    baselines: list[Beside]
    change: Change | None
    frequent: Counts
    lengths: Counts
    provenance: dict[str, Any]
    model: str = ""  # pages of before have none


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The examples under one value of a tag; the difference is of the last run and the first."""

    tag: str
    kind: str
    n: int
    means: list[float]
    intervals: list[Interval]
    difference: float | None
    difference_interval: Interval


class WatchedExample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An example as in `Row`, with (prediction, score) at each scoring; None where not asked."""

    id: int | str
    question: str
    references: Counts
    image: int | None
    file: str | None
    answers: list[tuple[str, float | None] | None]


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """The training behind a run: its curves, and the examples that were watched.

    Attributes:
        name: of the run on this page.
        curves: those that are drawn.
        scores: each metric that was measured, once or more often.
        columns: what the scorings of the watched examples are called.
        notes: sentences beside the curves.
    """

    name: str
    curves: Curves | None
    scores: list[ScoreCurve]
    best_step: int | None
    columns: list[str]
    watched: list[WatchedExample]
    notes: list[str]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """All that a page shows.

    Attributes:
        metric: the headline.
        best: its best value.
        images: data URIs.
        notes: sentences beside the figures.
        longer: figures that are folded, with the notes on them; see `tasks.shown_figures`.
        repeated: figures that are left out, as others are the same.
        trainings: of the runs that were scored inside their own folders.
    """

    task: str
    split: str
    metric: str
    best: float
    runs: list[Run]
    slices: list[Slice]
    rows: list[Row]
    images: list[str]
    frequent_references: Counts
    reference_lengths: Counts
    notes: list[str]
    longer: list[str] = []
    repeated: list[str] = []
    trainings: list[Training] = []
