"""Compare two evaluations of the same examples, and tell change from chance."""

from collections.abc import Mapping
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any, NotRequired, TypedDict, TypeVar

import msgspec

from common.terminal_table import align
from evaluation.pairing import Compared, Identified, pair, same_measured
from tasks.files import read_bytes
from tasks.metrics.uncertainty import mean_uncertainty

L = TypeVar("L", bound=Identified)


class _Row(msgspec.Struct, frozen=True, gc=False):
    id: int | str
    prediction: str
    references: tuple[str, ...]
    score: float | None
    question: str = ""
    image: str | None = None
    images: tuple[str, ...] = ()


class _Measured(TypedDict):
    """The part of metrics.json that says which scores these are."""

    task: str
    split: str
    metric: str


class _Metrics(_Measured):
    num_examples: NotRequired[int]
    num_questions_read: NotRequired[int]
    provenance: NotRequired[dict[str, Any]]


def compare(
    a: Path, b: Path, *, allow_partial: bool = False, num_changes: int = 10, seed: int = 0
) -> dict[str, Any]:
    """Compare the scores of each example in two evaluations; differences are B - A.

    Args:
        a: predictions.jsonl or its folder; a metrics.json beside it is read too.
        b: likewise.
        allow_partial: leave out examples that only one of them has, in place of refusing them.
        num_changes: the most examples to list that rose, and that fell, the greatest first.
        seed: of the bootstrap over the examples' differences.

    Returns:
        What `--output` holds.

    Raises:
        ValueError: a file is not as it was written, or the two are not of the same examples,
            questions, images, references and metric.
    """
    first, second = (_read(prediction_file(place)) for place in (a, b))
    return compare_lines(
        first, second, allow_partial=allow_partial, num_changes=num_changes, seed=seed
    )


def compare_lines(
    a: Compared, b: Compared, *, allow_partial: bool = False, num_changes: int = 10, seed: int = 0
) -> dict[str, Any]:
    """Compare two evaluations that were read; see `compare`."""
    measured = same_measured(a, b)
    where = f"{a.file} and {b.file}"
    pairs, notes = pair(a.lines, b.lines, where, allow_partial)
    changes: list[dict[str, Any]] = [
        {
            "id": x.id,
            "scores": (x.score, y.score),
            "difference": y.score - x.score,
            "predictions": (x.prediction, y.prediction),
            "references": x.references,
        }
        for x, y in pairs
        if x.score is not None and y.score is not None
    ]
    if not changes:
        raise ValueError(
            f"No example has a score in both {where}; compare evaluations of a split whose "
            "answers are published."
        )
    if len(changes) < len(pairs):
        notes.append(f"Left out, without a score: {len(pairs) - len(changes)}.")
    if measured.get("metric") == "CIDEr":
        notes.append("An image's CIDEr depends on the set evaluated: only equal sets compare.")
    change_of = itemgetter("difference")
    differences = [change_of(change) for change in changes]
    best = a.best if b.best is None else b.best
    if best is None and len(differences) > 1 and len(set(differences)) == 1:
        notes.append(
            "All differences are equal and the metric's range is not known: the interval says "
            "nothing."
        )
    bounds = None if best is None else (-best, best)
    rose = sorted((c for c in changes if change_of(c) > 0), key=change_of, reverse=True)
    fell = sorted((c for c in changes if change_of(c) < 0), key=change_of)
    return {
        "files": (str(a.file), str(b.file)),
        **measured,
        "num_examples": len(changes),
        "means": [fmean(change["scores"][side] for change in changes) for side in (0, 1)],
        "difference": fmean(differences),
        "uncertainty": asdict(mean_uncertainty(differences, bounds, seed=seed)),
        "num_rose": len(rose),
        "num_fell": len(fell),
        "num_stayed": len(changes) - len(rose) - len(fell),
        "rose_most": rose[:num_changes],
        "fell_most": fell[:num_changes],
        "notes": notes,
    }


def prediction_file(place: Path) -> Path:
    """Return an evaluation's predictions: the file itself, a folder's, or a run's only ones.

    Raises:
        ValueError: a folder has none, or is of a run with several evaluations.
    """
    if not place.is_dir():
        return place
    if (file := place / "predictions.jsonl").exists():
        return file
    # one level more where a run has several tasks
    levels = ("evaluation/*", "evaluation/*/*")
    found = sorted(f for level in levels for f in place.glob(f"{level}/predictions.jsonl"))
    if len(found) == 1:
        return found[0]
    there = f"it has {', '.join(str(path.parent) for path in found)}" if found else "it has none"
    raise ValueError(
        f"{place} is no evaluation: name predictions.jsonl, its folder, or a run with one "
        f"evaluation; {there}."
    )


def read_lines(path: Path, kind: type[L]) -> dict[int | str, L]:
    """Read predictions.jsonl by id.

    Args:
        path: the file.
        kind: a struct with the parts of a line that are wanted, `id` among them.

    Raises:
        ValueError: a line is not as it was written, or an id is there twice.
    """
    rows: dict[int | str, L] = {}
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if line.strip():
            where = f"{path}, line {number},"
            row = decode_written(line, kind, where)
            if row.id in rows:
                raise ValueError(f"{where} has id {row.id} a second time; evaluate again.")
            rows[row.id] = row
    return rows


def _read(file: Path) -> Compared:
    lines = read_lines(file, _Row)
    path = file.with_name("metrics.json")
    if not path.exists():
        return Compared(file, {}, lines)
    metrics = decode_written(read_bytes(path), _Metrics, str(path))
    scored = metrics.pop("num_examples", len(lines))
    check_whole(lines, metrics.pop("num_questions_read", scored), file)
    provenance = metrics.pop("provenance", {})
    return Compared(file, metrics, lines, provenance)


def check_whole(lines: Mapping[int | str, Any], num_examples: int, file: Path) -> None:
    """Verify that predictions.jsonl has as many examples as the metrics.json beside it is of.

    Raises:
        ValueError: one of the two files is cut, or of another evaluation.
    """
    if len(lines) != num_examples:
        raise ValueError(
            f"{file} has {len(lines)} examples, and the metrics.json beside it is of "
            f"{num_examples}; copy both again, or evaluate again."
        )


def decode_written(content: bytes, kind: Any, where: str) -> Any:
    """Decode what an evaluation wrote; raises ValueError, with `where` in it, on anything else."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{where} is not as eval.py wrote it ({error}); evaluate again."
        ) from error


def table(comparison: Mapping[str, Any], width: int) -> str:
    """Return the comparison as plain text for a terminal `width` columns wide."""
    c, uncertainty = comparison, comparison["uncertainty"]
    title = [c[key] for key in _Measured.__annotations__ if key in c]
    spread = "no standard error from one example"
    if uncertainty["interval_95"]:
        lower, upper = uncertainty["interval_95"]
        error = uncertainty["standard_error"]
        spread = f"standard error {error:.4g}, 95 %: {lower:+.4g} to {upper:+.4g}"
    lines = [
        ", ".join([*title, f"{c['num_examples']} examples"]),
        align(
            [
                ["A", f"{c['means'][0]:.4g}", c["files"][0]],
                ["B", f"{c['means'][1]:.4g}", c["files"][1]],
                ["B - A", f"{c['difference']:+.4g}", spread],
            ],
            left=(0, 1, 2),
            widths=(0, 8),
            indent=2,
        ),
        f"  {c['num_rose']} rose, {c['num_fell']} fell, {c['num_stayed']} stayed",
        *c["notes"],
    ]
    for heading, changes in (("Rose most:", c["rose_most"]), ("Fell most:", c["fell_most"])):
        lines += ["", heading] if changes else []
        lines += [line for change in changes for line in _lines(change, width)]
    return "\n".join(lines)


def _lines(change: Mapping[str, Any], width: int) -> tuple[str, str]:
    # repr: an empty text shows, a control character does not act
    references = " | ".join(map(repr, dict.fromkeys(change["references"])))
    scores = " -> ".join(f"{score:.4g}" for score in change["scores"])
    texts = [_cut(repr(text), (width - 8) // 2) for text in change["predictions"]]
    return _cut(f"  {change['id']}: {scores}  of {references}", width), f"    {' -> '.join(texts)}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
