"""`report.html`: one or several evaluations as one file that needs no network."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from common.files import check_writable, write_text
from evaluation.compare import compare
from evaluation.page_content import Evaluation, as_evaluation, make_page, read_evaluation
from evaluation.page_data import Page
from evaluation.page_training import watched_ids, with_trainings
from evaluation.thumbnails import make_thumbnails
from tasks.report import Report, writing_to

PAGE = "report.html"
_MARK = '<meta name="generator" content="palitune report">'
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
    if output.is_dir() or (output.exists() and _MARK not in _head(output)):
        raise ValueError(f"{output} is there and is no report; choose another file by --output.")
    check_writable(output.parent)
    found = [_evaluation(place) for place in places]
    # refuses evaluations of other tasks, examples and references
    changes = [compare(found[0], place, allow_partial=allow_partial) for place in found[1:]]
    evaluations = [read_evaluation(place) for place in found]
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
    from jinja2 import Environment
    from markupsafe import Markup

    page = with_trainings(make_page(evaluations, changes, thumbnails, output), evaluations, output)
    parts = resources.files("evaluation") / "page"
    files = ("report.html", "report.css", "report.js", "training.css", "training.js")
    html, style, script, *more = ((parts / name).read_text("utf-8") for name in files)
    # no text of a model or a data set can end the element or open another
    data = msgspec.json.encode(page).decode().replace("<", "\\u003c")
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(html)
    text = template.render(
        title=f"{page.task}, split '{page.split}'",
        style=Markup(style + more[0]),
        script=Markup(script + more[1]),
        data=Markup(data),
    )
    write_text(output, text)
    return page


def _evaluation(place: Path) -> Path:
    """The evaluation that a path means: itself, or the only one of a run."""
    if not place.is_dir() or (place / "predictions.jsonl").exists():
        return place
    # one level more where a run has several tasks
    levels = ("evaluation/*", "evaluation/*/*")
    files = [path for level in levels for path in place.glob(f"{level}/predictions.jsonl")]
    found = sorted(path.parent for path in files)
    if len(found) == 1:
        return found[0]
    there = f"it has {', '.join(map(str, found))}" if found else "it has none"
    raise ValueError(
        f"{place} is no evaluation: name predictions.jsonl, its folder, or a run with one "
        f"evaluation; {there}."
    )


def _head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1000)


def _images_of(path: Path) -> dict[int | str, str]:
    """The images of an evaluation's own page; none where there is no such page."""
    if not path.is_file() or _MARK not in _head(path):
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
