"""The figures of a report and some of its answers as text for a terminal, each told once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from common.terminal_table import align
from tasks.report import Report
from tasks.shown_figures import is_note_on, is_repeated, shown_figures, where_longer_are

_LONGEST_REASON = 80  # characters; longer ones stand in metrics.json alone
_LONGEST_CELL = 30
_LONGEST_KIND = 60
_MOST_TAG_LINES = 12

# Three rules under nearly one name (`tasks.metrics.text`): what tells them apart.
_ROUGES = {
    "rouge_l": "words of every script",
    "rougeL": "words of a to z and digits alone",
    "ROUGE_L": "by the COCO scorer, where recall weighs more",
}


def score_table(report: Report) -> str:
    """Return the figures of a report, the headline first.

    A figure stands in one row, though several entries of metrics.json may hold it; see
    `tasks.shown_figures` for those that are left out. What is not available stands in one line at
    the end of its group.
    """
    title = f"{report.task.name}, split '{report.split}', {report.num_examples} examples"
    interval = report.uncertainty.interval_95 if report.uncertainty else None
    besides = {}
    if interval:
        besides[report.task.metric] = f"(95 %: {interval[0]:.4g} to {interval[1]:.4g})"
    longer = report.figures_for_longer
    lines = [title, *_rows(shown_figures(report.metrics, longer), report.reasons, besides)]
    headline = report.task.metric
    notes = [n for n in dict.fromkeys(report.all_notes) if not is_note_on(n, longer, headline)]
    lines += filter(None, [where_longer_are(longer, report.metrics)])
    shown = dict(report.metrics)
    for group, metrics in report.extra_metrics.items():
        new = {name: value for name, value in metrics.items() if name not in shown}
        if is_repeated(shown | new):
            new.pop("rougeL", None)
        reasons: dict[str, str] = {}
        for name in (name for name, value in metrics.items() if value is None):
            start = f"{group}, {name}: "
            for note in (note for note in tuple(notes) if note.startswith(start)):
                reasons[name] = note.removeprefix(start).rstrip(".")
                notes.remove(note)
        if new:
            lines += [f"{group}, beside the task's own figures", *_rows(new, reasons, {})]
        shown |= new
    return "\n".join([*lines, *notes])


def breakdown_table(report: Report) -> str:
    """Return the score under each value of the tags, as far as they are few; empty without any.

    A tag with one value alone says nothing new. Of the others each is shown that the lines suffice
    for, and those that are left are named, as metrics.json has them.
    """
    lines, left, room = [], [], _MOST_TAG_LINES
    for tag, table in report.scores_by_tag.items():
        if len(table) > room:
            left.append(tag)
        elif len(table) > 1:
            room -= len(table)
            rows = [
                [
                    _cell(kind, _LONGEST_KIND),
                    _number(fmean(scores)),
                    f"{len(scores)} example{'s'[: len(scores) > 1]}",
                ]
                for kind, scores in table.items()
            ]
            lines += [f"{report.task.metric} by {tag}", align(rows, left=(0, 1, 2), indent=2)]
    if left:
        lines.append(f"{report.task.metric} by {', '.join(left)} is in metrics.json.")
    return "\n".join(lines)


def answer_table(report: Report) -> str:
    """Return some of a report's examples with their answers; see `_shown_examples`."""
    rows = [["question", "answer", "references", "score"]]
    for index in _shown_examples(report):
        example = report.examples[index]
        value = report.scores.values[index] if report.scores else None
        rows.append(
            [
                _cell(example.turns[-1].text),
                _cell(report.predictions[index]),
                _cell(", ".join(dict.fromkeys(example.references))),
                "-" if value is None else _number(value),
            ]
        )
    return align(rows, left=(0, 1, 2), indent=2)


def _shown_examples(report: Report) -> list[int]:
    """Return three places: an example of the lowest score, one between, and one of the highest.

    Each has as little in common with those before it as can be: question, references, answer. Where
    no score is between, the one between is any other. Without three scores they are the first, the
    middle and the last.
    """
    values = {
        place: value
        for place, value in enumerate(report.scores.values if report.scores else ())
        if value is not None
    }
    number = len(report.examples)
    if len(values) < 3:
        return sorted({0, number // 2, number - 1} if number else ())
    low, high = min(values.values()), max(values.values())
    middle = (low + high) / 2
    shown: list[int] = []

    def choose(places: Iterable[int]) -> int:
        def likeness(place: int) -> tuple[int, float, int]:
            own = _said(report, place)
            same = sum(a == b for other in shown for a, b in zip(own, others[other], strict=True))
            return same, abs(values[place] - middle), place

        others = {place: _said(report, place) for place in shown}
        shown.append(min((place for place in places if place not in shown), key=likeness))
        return shown[-1]

    lowest = choose(place for place, value in values.items() if value == low)
    highest = choose(place for place, value in values.items() if value == high)
    between = [place for place, value in values.items() if low < value < high]
    return [lowest, choose(between or values), highest]


def _said(report: Report, place: int) -> tuple[str, tuple[str, ...], str]:
    example = report.examples[place]
    return example.turns[-1].text, example.references, report.predictions[place]


def _rows(
    metrics: Mapping[str, float | None], reasons: Mapping[str, str], besides: Mapping[str, str]
) -> list[str]:
    """Return a line for each figure, and one for all that are not available."""
    known = {name: value for name, value in metrics.items() if value is not None}
    rouges = {name: f"({_ROUGES[name]})" for name in known if name in _ROUGES}
    more = {**(rouges if len(rouges) > 1 else {}), **besides}
    rows = [[name, f"{_number(value)}  {more.get(name, '')}"] for name, value in known.items()]
    lines = [align(rows, left=(0, 1), widths=(13,), indent=2)] if rows else []
    missing = defaultdict(list)
    for name, value in metrics.items():
        if value is None:
            missing[reasons.get(name, "")].append(name)
    if missing:
        parts = [f"{', '.join(names)} ({_short(reason)})" for reason, names in missing.items()]
        lines.append(f"  not available: {'; '.join(parts)}")
    return lines


def _short(reason: str) -> str:
    return reason if 0 < len(reason) <= _LONGEST_REASON else "metrics.json says why"


def _number(value: float) -> str:
    return f"{round(value, 4):.4g}"


def _cell(text: str, longest: int = _LONGEST_CELL) -> str:
    """Return a text as a part of a line: short, and without characters that move the cursor."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else f"{line[: longest - 1].rstrip()}…"
