"""The figures of a report and some of its answers as text for a terminal, each told once."""

from collections import defaultdict
from collections.abc import Mapping

from common.terminal_table import align
from tasks.report import Report

_LONGEST_REASON = 80  # characters; longer ones stand in metrics.json alone
_LONGEST_CELL = 30

# Three rules under nearly one name (`tasks.metrics.text`): what tells them apart.
_ROUGES = {
    "rouge_l": "words of every script",
    "rougeL": "words of a to z and digits alone",
    "ROUGE_L": "by the COCO scorer, where recall weighs more",
}


def score_table(report: Report) -> str:
    """Return the figures of a report, the headline first.

    A figure stands in one row, though several entries of metrics.json may hold it. `rougeL` is left
    out beside an equal `rouge_l`, which is the same rule where all letters are a to z. What is not
    available stands in one line at the end of its group.
    """
    title = f"{report.task.name}, split '{report.split}', {report.num_examples} examples"
    interval = report.uncertainty.interval_95 if report.uncertainty else None
    besides = {}
    if interval:
        besides[report.task.metric] = f"(95 %: {interval[0]:.4g} to {interval[1]:.4g})"
    lines = [title, *_rows(report.metrics, report.reasons, besides)]
    notes = list(dict.fromkeys(report.all_notes))
    shown = dict(report.metrics)
    for group, metrics in report.extra_metrics.items():
        new = {name: value for name, value in metrics.items() if name not in shown}
        if _is_one_rouge(shown | new):
            new.pop("rougeL", None)
        reasons: dict[str, str] = {}
        for name in (name for name, value in metrics.items() if value is None):
            start = f"{group}, {name}: "
            for note in (note for note in tuple(notes) if note.startswith(start)):
                reasons[name] = note.removeprefix(start).rstrip(".")
                notes.remove(note)
        if new:
            lines += [f"{group}, which are not the official figures", *_rows(new, reasons, {})]
        shown |= new
    return "\n".join([*lines, *notes])


def answer_table(report: Report) -> str:
    """Return the first, the middle and the last of a report's examples with their answers."""
    number = len(report.examples)
    rows = [["question", "answer", "references", "score"]]
    for index in sorted({0, number // 2, number - 1} if number else ()):
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


def _rows(
    metrics: Mapping[str, float | None], reasons: Mapping[str, str], besides: Mapping[str, str]
) -> list[str]:
    """Return a line for each figure, and one for all that are not available."""
    known = {name: value for name, value in metrics.items() if value is not None}
    if _is_one_rouge(known):
        del known["rougeL"]
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


def _is_one_rouge(metrics: Mapping[str, float | None]) -> bool:
    return "rougeL" in metrics and metrics.get("rouge_l") == metrics["rougeL"]


def _short(reason: str) -> str:
    return reason if 0 < len(reason) <= _LONGEST_REASON else "metrics.json says why"


def _number(value: float) -> str:
    return f"{round(value, 4):.4g}"


def _cell(text: str) -> str:
    """Return a text as a part of a line: short, and without characters that move the cursor."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_CELL else f"{line[: _LONGEST_CELL - 1].rstrip()}…"
