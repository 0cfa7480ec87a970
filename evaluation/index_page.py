"""`index.html`: many results as one page, a table and heat maps, that needs no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evaluation.page_file import write_page

INDEX = "index.html"
Setting = str | int | float | bool | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One of the runs whose mean an entry is.

    Attributes:
        name: what tells it from the others, such as `seed 1`.
        value: its headline; None where there is none.
        interval: the headline's 95 % interval over examples, where it is known.
        state: in a word or two.
        report: relative link to its page; None where it has none.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    state: str
    report: str | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One result, or the place of one that is not there.

    Attributes:
        name: of what was scored.
        settings: that make it; those that differ become columns, and axes of the heat maps.
        state: in a word or two, such as `finished` or `failed`.
        reason: why it is not finished, or how to go on.
        metric: name of the headline; None where there is no score.
        value: the headline; of several runs the mean.
        interval: its 95 % interval over examples, where it is known.
        members: the runs whose mean it is; of one run none.
        deviation: the sample standard deviation of their values, from two on.
        is_reference: whether it stands beside the others and has no place in the heat maps.
        num_examples: the number of examples behind it.
        figures: other numbers by name.
        report: relative link to its page; None where it has none.
    """

    name: str
    settings: dict[str, Setting]
    state: str
    reason: str = ""
    metric: str | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    num_examples: int | None = None
    figures: dict[str, float | None] = {}
    report: str | None = None
    members: Sequence[Member] = ()
    deviation: float | None = None
    is_reference: bool = False


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows; `notes` are sentences below its title."""

    entries: Sequence[Entry]
    notes: Sequence[str]


def write_index(
    output: Path, title: str, entries: Sequence[Entry], notes: Sequence[str] = ()
) -> None:
    """Write the page.

    Args:
        output: the file; `evaluation.page_file.check_page` refuses another kind of file there.
        title: of the page.
        entries: in the order of the table.
        notes: sentences below the title.
    """
    write_page("index", output, title, Index(entries=entries, notes=notes))


def score_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an entry that a metrics.json, or a summary's row of it, holds."""
    uncertainty, value = metrics.get("uncertainty"), metrics.get("value")
    inner = uncertainty.get("interval_95") if isinstance(uncertainty, dict) else None
    return {
        "metric": metrics.get("metric"),
        "value": value if isinstance(value, int | float) else None,
        "interval": metrics.get("interval_95") or inner,
        "num_examples": metrics.get("num_examples"),
    }


def plain(settings: Mapping[str, Any]) -> dict[str, Setting]:
    """Return settings with lists and objects written as text, which a table can show."""
    return {
        name: value if isinstance(value, Setting) else msgspec.json.encode(value).decode()
        for name, value in settings.items()
    }
