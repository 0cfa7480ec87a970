"""`report.html`: one or several evaluations as one file that needs no network."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evaluation.compare import compare_lines
from evaluation.page_content import Evaluation, as_evaluation, make_page, read_evaluation
from evaluation.page_data import Page
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
            or `output` is another kind of file.
    """
    check_page(output, "report", "choose another file by --output.", "--output")
    evaluations = [read_evaluation(place) for place in places]
    first, *others = (evaluation.compared for evaluation in evaluations)
    # refuses evaluations of other tasks, examples and references
    changes = [compare_lines(first, other, allow_partial=allow_partial) for other in others]
    thumbnails: dict[int | str, str] = {}
    for evaluation in evaluations:
        thumbnails |= _images_of(evaluation.folder / PAGE)
    return _write(evaluations, changes, thumbnails, output)


def _write(
    evaluations: Sequence[Evaluation],
    changes: Sequence[Mapping[str, Any]],
    thumbnails: Mapping[int | str, str],
    output: Path,
) -> Page:
    page = with_trainings(make_page(evaluations, changes, thumbnails, output), evaluations, output)
    write_page("report", output, f"{page.task}, split '{page.split}'", page)
    return page


def _images_of(path: Path) -> dict[int | str, str]:
    """The images of an evaluation's own page; none where there is no such page."""
    if not is_page(path, "report"):
        return {}
    match = _DATA.search(path.read_text("utf-8"))
    if match is None:
        return {}
    try:
        page = msgspec.json.decode(match[1], type=Page)
    except msgspec.MsgspecError:
        return {}  # of another version
    return {
        row.id: page.images[row.image]
        for row in page.rows
        if row.image is not None and page.images[row.image].startswith("data:image/")
    }
