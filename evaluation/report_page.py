"""`report.html`: one or several evaluations as one file that needs no network."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from evaluation.compare import compare_lines
from evaluation.page_content import Evaluation, as_evaluation, make_page, read_evaluation
from evaluation.page_data import Line, Page, Row
from evaluation.page_file import check_page, is_page, write_page
from evaluation.page_training import watched_ids, with_trainings
from evaluation.thumbnails import make_thumbnails
from tasks.report import Report
from tasks.report_files import writing_to

PAGE = "report.html"
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def write_report_page(report: Report, folder: Path, images_budget: float) -> None:
    """Write the page of an evaluation whose other files lie in its folder.

    Args:
        report: its examples' images are opened.
        folder: has predictions.jsonl and metrics.json.
        images_budget: MB of images on the page; 0 opens none.
    """
    watched = watched_ids(folder)  # their images come first
    examples = sorted(report.examples, key=lambda example: example.example_id not in watched)
    thumbnails = make_thumbnails(examples, int(images_budget * 1e6))
    with writing_to(folder):
        _write([as_evaluation(report, folder)], [], thumbnails, folder / PAGE)


def join_pages(places: Sequence[Path], output: Path, *, allow_partial: bool = False) -> Page:
    """Write one page of evaluations that lie on disk; images are those of their own pages.

    Args:
        places: predictions.jsonl of each, its folder, or the folder of a run with one evaluation.
        output: the page; a file that is none is not overwritten.
        allow_partial: leave out examples that not all of them have, in place of refusing them.

    Returns:
        What the page shows.

    Raises:
        ValueError: a file is missing or not as it was written, they are not of the same examples,
            or `output` is another kind of file, or the page of an evaluation that is not shown.
    """
    check_page(output, "report", "choose another file by --output.", "--output")
    evaluations = [read_evaluation(place) for place in places]
    _check_not_of_another(output, [evaluation.folder for evaluation in evaluations])
    first, *others = (evaluation.compared for evaluation in evaluations)
    # refuses evaluations of other tasks, examples and references
    changes = [compare_lines(first, other, allow_partial=allow_partial) for other in others]
    thumbnails: dict[int | str, str] = {}
    located = []
    for evaluation in evaluations:
        page = _own_page(evaluation)
        thumbnails |= {} if page is None else _images_of(page)
        located.append(_located(evaluation, page))
    return _write(located, changes, thumbnails, output)


def _check_not_of_another(output: Path, folders: Sequence[Path]) -> None:
    """Keep the page that an evaluation wrote beside its answers: its images are nowhere else."""
    place = output.resolve()
    is_own_page = place.name == PAGE and (place.parent / "predictions.jsonl").is_file()
    if is_own_page and [folder.resolve() for folder in folders] != [place.parent]:
        raise ValueError(
            f"{output} is the page of the evaluation in {place.parent}, whose images it holds; "
            "choose another file by --output."
        )


def _write(
    evaluations: Sequence[Evaluation],
    changes: Sequence[Mapping[str, Any]],
    thumbnails: Mapping[int | str, str],
    output: Path,
) -> Page:
    page = with_trainings(make_page(evaluations, changes, thumbnails, output), evaluations, output)
    write_page("report", output, f"{page.task}, split '{page.split}'", page)
    return page


def _own_page(evaluation: Evaluation) -> Page | None:
    """The page that an evaluation wrote beside its answers; None where what is there is none."""
    path = evaluation.folder / PAGE
    match = _DATA.search(path.read_text("utf-8")) if is_page(path, "report") else None
    if match is None:
        return None
    try:
        page = msgspec.json.decode(match[1], type=Page)
    except msgspec.MsgspecError:
        return None  # of another version
    sides = range(len(page.runs))
    return page if any(_shows(page, side, evaluation.lines) for side in sides) else None


def _shows(page: Page, side: int, lines: Mapping[int | str, Line]) -> bool:
    """Whether a run of a page is these answers to these examples, and not others of their ids."""

    def is_same(row: Row, line: Line | None) -> bool:
        if line is None or row.question != line.question:
            return False
        answer = row.answers[side]
        given = (answer.raw, answer.prediction) == (line.raw_prediction, line.prediction)
        return given and dict(row.references) == Counter(line.references)

    return all(is_same(row, lines.get(row.id)) for row in page.rows)


def _images_of(page: Page) -> dict[int | str, str]:
    return {
        row.id: page.images[row.image]
        for row in page.rows
        if row.image is not None and page.images[row.image].startswith("data:image/")
    }


def _located(evaluation: Evaluation, page: Page | None) -> Evaluation:
    """An evaluation with its image files where they are, wherever this is called from.

    predictions.jsonl names them from where `eval.py` was called; its own page links them.
    """
    links = {row.id: row.file for row in page.rows if row.file} if page else {}

    def place(line: Line) -> str | None:
        if line.id in links:
            return str(evaluation.folder / unquote(links[line.id]))
        return line.image if line.image and os.path.isabs(line.image) else None

    lines = {
        key: msgspec.structs.replace(line, image=place(line))
        for key, line in evaluation.lines.items()
    }
    return replace(evaluation, lines=lines)
