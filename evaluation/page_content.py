"""The content of a report's page, from one or several evaluations of the same examples."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from evaluation.baselines import LABELS, about
from evaluation.compare import check_whole, decode_written, prediction_file, read_lines
from evaluation.own_code import Measure, measure_of, read_used
from evaluation.page_data import (
    Answer,
    Beside,
    Change,
    Counts,
    Figures,
    Line,
    Measured,
    Page,
    Row,
    Run,
    Slice,
)
from evaluation.page_file import link_to
from evaluation.pairing import Compared
from evaluation.provenance import named_model
from tasks.base import Task
from tasks.files import read_bytes
from tasks.metrics.uncertainty import mean_uncertainty
from tasks.report import Report
from tasks.shown_figures import for_longer_texts, is_repeated

MOST_ROWS = 20_000  # more would make a page of tens of megabytes
MOST_FREQUENT = 20
_LENGTHS = ((0, "0"), (1, "1"), (2, "2"), (5, "3 to 5"), (10, "6 to 10"), (20, "11 to 20"))
_LONGER = "over 20"
_EXTRA = ("lenient", "text_metrics", "clip_metrics")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation: its predictions.jsonl, and what is in that and in metrics.json."""

    file: Path
    measured: Measured
    lines: Mapping[int | str, Line]

    @property
    def folder(self) -> Path:
        """Return the folder with the evaluation's files."""
        return self.file.parent

    @property
    def compared(self) -> Compared:
        """Return what `compare_lines` takes."""
        of = self.measured
        measured = {"task": of.task, "split": of.split, "metric": of.metric}
        return Compared(self.file, measured, self.lines, of.provenance)


def read_evaluation(place: Path) -> Evaluation:
    """Read predictions.jsonl, or that of a folder, and the metrics.json beside it.

    Raises:
        ValueError: one is missing, not as `eval.py` wrote it, or of other examples than the other.
    """
    file = prediction_file(place)
    path = file.with_name("metrics.json")
    lines = read_lines(file, Line)
    if not path.is_file():
        raise ValueError(f"{path} is missing, which eval.py writes beside {file.name}.")
    measured: Measured = decode_written(read_bytes(path), Measured, str(path))
    check_whole(lines, measured.num_questions_read or measured.num_examples, file)
    return Evaluation(file, measured, lines)


def as_evaluation(report: Report, folder: Path) -> Evaluation:
    """Return a report as `read_evaluation` would find it in its folder, without reading it."""
    lines = {row["id"]: Line(**row) for row in report.prediction_rows()}
    measured = msgspec.convert(report.metrics_json(), Measured)
    return Evaluation(folder / "predictions.jsonl", measured, lines)


def make_page(
    evaluations: Sequence[Evaluation],
    changes: Sequence[Mapping[str, Any]],
    thumbnails: Mapping[int | str, str],
    output: Path,
) -> Page:
    """Join evaluations by the examples' ids; only those that all have are shown.

    Args:
        evaluations: of the same task, split and references.
        changes: what `compare` says of each but the first, beside the first.
        thumbnails: data URIs of images, by the examples' ids.
        output: where the page will lie, which links to images are relative to.
    """
    measured = [evaluation.measured for evaluation in evaluations]
    tables = [evaluation.lines for evaluation in evaluations]
    lines = [
        [table[key] for table in tables]
        for key in tables[0]
        if all(key in table for table in tables)
    ]
    notes = [note for content in measured for note in content.notes]
    notes += [note for change in changes for note in change["notes"]]
    first, images = measured[0], dict[str, int]()
    used = read_used(first.provenance, str(evaluations[0].file.with_name("metrics.json")))
    task = measure_of(first.task, first.metric, used)
    rows = [_row(own, task, images, thumbnails, output) for own in lines[:MOST_ROWS]]
    notes += _left_out(max(map(len, tables)), len(lines), rows)
    return Page(
        task=first.task,
        split=first.split,
        metric=first.metric,
        best=task.metric_range,
        runs=[
            _run(chr(ord("A") + place), evaluation, [own[place] for own in lines], change)
            for place, (evaluation, change) in enumerate(
                zip(evaluations, [None, *changes], strict=True)
            )
        ],
        slices=_slices(lines, task.metric_range),
        rows=rows,
        images=list(images),
        frequent_references=_most_frequent(
            max(own[0].references, key=own[0].references.count)
            for own in lines
            if own[0].references
        ),
        reference_lengths=_lengths(text for own in lines for text in own[0].references),
        notes=list(dict.fromkeys(notes)),
        longer=_for_longer(measured, lines),
        repeated=["rougeL"] if all(is_repeated(_figures(content)) for content in measured) else [],
    )


def _left_out(most: int, num_shared: int, rows: Sequence[Row]) -> Iterator[str]:
    """What a page has not: examples that only some evaluations have, late ones, and images."""
    if most > num_shared:
        yield (
            f"Slices and examples below are the {num_shared} that all have; each score is of all "
            "examples of its own, and each difference of those that the two have."
        )
    if num_shared > len(rows):
        yield f"The figures are of all {num_shared} examples; the first {len(rows)} are below."
    if without := sum(row.image is None for row in rows):
        yield f"Images of {without} examples are not inside this page."


def _row(
    own: Sequence[Line],
    task: Task | Measure,
    images: dict[str, int],
    thumbnails: Mapping[int | str, str],
    output: Path,
) -> Row:
    first = own[0]
    thumbnail = thumbnails.get(first.id)
    return Row(
        id=first.id,
        question=first.question,
        references=Counter(first.references).most_common(),
        tags=first.tags,
        image=None if thumbnail is None else images.setdefault(thumbnail, len(images)),
        file=link_to(first.image, output),
        answers=[
            Answer(
                prompt=line.prompt,
                raw=line.raw_prediction,
                prediction=line.prediction,
                score=line.score,
                working=tuple(task.working(line.prediction, line.references))
                if line.references
                else (),
            )
            for line in own
        ],
    )


def _run(
    name: str,
    evaluation: Evaluation,
    lines: Sequence[Line],
    change: Mapping[str, Any] | None,
) -> Run:
    measured = evaluation.measured
    uncertainty = measured.uncertainty
    return Run(
        name=name,
        folder=str(evaluation.folder),
        value=measured.value,
        interval=uncertainty.interval_95 if uncertainty else None,
        num_examples=measured.num_examples,
        metrics=measured.metrics,
        reasons=measured.reasons,
        extra={name: group for name in _EXTRA if (group := getattr(measured, name))},
        baselines=[
            Beside(
                name=LABELS[name],
                value=found["value"],
                interval=found["interval_95"],
                about=about(found),
            )
            for name, found in measured.baselines.items()
        ],
        change=None
        if change is None
        else Change(
            difference=change["difference"],
            interval=change["uncertainty"]["interval_95"],
            num_rose=change["num_rose"],
            num_fell=change["num_fell"],
            num_stayed=change["num_stayed"],
        ),
        frequent=_most_frequent(line.prediction for line in lines),
        lengths=_lengths(line.prediction for line in lines),
        provenance=measured.provenance,
        model=named_model(measured.provenance),
    )


def _for_longer(measured: Sequence[Measured], lines: Sequence[Sequence[Line]]) -> list[str]:
    names = list(dict.fromkeys(name for content in measured for name in content.metrics))
    references = (own[0].references for own in lines)
    return list(for_longer_texts(names, measured[0].metric, references))


def _figures(measured: Measured) -> Figures:
    """Every figure of an evaluation; of one in several groups the task's own."""
    groups = [getattr(measured, name) for name in _EXTRA]
    return {name: value for group in (*groups, measured.metrics) for name, value in group.items()}


def _slices(lines: Sequence[Sequence[Line]], best: float) -> list[Slice]:
    """Mean, interval and difference of the scored examples under each value of each tag."""
    members: dict[tuple[str, str], list[list[float]]] = {}
    for own in lines:
        scores = [line.score for line in own if line.score is not None]
        if len(scores) < len(own):
            continue
        for tag, kinds in own[0].tags.items():
            for kind in dict.fromkeys(kinds):
                members.setdefault((tag, kind), []).append(scores)
    found = []
    for (tag, kind), scored in sorted(members.items()):
        columns = list(zip(*scored, strict=True))
        differences = [scores[-1] - scores[0] for scores in scored] if len(columns) > 1 else []
        found.append(
            Slice(
                tag=tag,
                kind=kind,
                n=len(scored),
                means=[fmean(column) for column in columns],
                intervals=[mean_uncertainty(own, (0, best)).interval_95 for own in columns],
                difference=fmean(differences) if differences else None,
                difference_interval=mean_uncertainty(differences, (-best, best)).interval_95
                if differences
                else None,
            )
        )
    return found


def _most_frequent(texts: Iterable[str]) -> Counts:
    return Counter(texts).most_common(MOST_FREQUENT)


def _lengths(texts: Iterable[str]) -> Counts:
    """Count texts by their number of words."""
    counts = dict.fromkeys([name for _, name in _LENGTHS] + [_LONGER], 0)
    for text, number in Counter(texts).items():  # most answers recur
        length = len(text.split())
        counts[next((name for most, name in _LENGTHS if length <= most), _LONGER)] += number
    return [(name, n) for name, n in counts.items() if any(counts.values())]
