"""The command that lists runs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from common.terminal_table import align
from evaluation.page_file import check_page
from finetuning.training.run_index import write_run_index
from finetuning.training.run_list import (
    ListedEvaluation,
    ListedRun,
    find_evaluations,
    find_runs,
)
from finetuning.training.run_state import resume_command
from palitune.command import Command, Option

_HEAD = ("run", "task", "base", "score", "steps", "began", "state")
_TIME = "%Y-%m-%d %H:%M"


def runs_command() -> click.Command:
    """Return the command that lists runs; it loads neither model nor data."""
    path = click.Path(path_type=Path)
    return Command(
        "runs",
        params=[
            click.Argument(["folder"], type=path, default=Path("runs")),
            Option(
                ["--html"],
                type=path,
                help="Write the list to this file too, as a page with a sortable table and heat "
                "maps of the settings; a file that is no such page is not overwritten.",
            ),
        ],
        callback=_list,
        help="List the runs in FOLDER [default: runs] with their scores, and the evaluations "
        "beside them; say how to go on with what was stopped.",
    )


def _list(folder: Path, html: Path | None) -> None:
    if html is not None:
        check_page(html, "index", "choose another file by --html.", "--html")
    runs, faults = find_runs(folder)
    evaluations, more = find_evaluations(folder)
    faults += more
    if rows := [*map(_cells, runs), *map(_cells_of_evaluation, evaluations)]:
        click.echo(align([_HEAD, *rows], left=range(len(_HEAD))))
    else:
        click.echo(f"There is no run in {folder}.")
    for fault in faults:
        click.echo(f"Left out: {fault}", err=True)
    _say_how_to_go_on([run for run in runs if run.state.state == "stopped"])
    if evaluations:
        place = shlex.quote(str(evaluations[0].folder))
        click.echo(f"\nTo see the answers of an evaluation:\n  palitune report {place}")
    if html is not None:
        write_run_index(html, folder, runs, evaluations, faults)
        click.echo(f"Wrote {html}.")


def _say_how_to_go_on(stopped: Sequence[ListedRun]) -> None:
    if stopped:
        click.echo("\nTo go on with what was stopped:")
    for run in stopped:
        click.echo(f"  {resume_command(run.folder, run.tasks)}")


def _cells(run: ListedRun) -> list[str]:
    found = run.state
    steps = "-" if found.step is None else f"{found.step} of {found.num_steps}"
    each = [_score(metrics, run.place_of(folder)) for folder, metrics in run.scores]
    scores = "; ".join(each) or "-"
    began = run.began.strftime(_TIME)
    return [str(run.folder), ",".join(run.tasks), run.base, scores, steps, began, found.state]


def _cells_of_evaluation(found: ListedEvaluation) -> list[str]:
    began = found.began.strftime(_TIME)
    score = _score(found.metrics)
    return [str(found.folder), found.task, found.model, score, "-", began, "evaluation"]


def _score(metrics: Mapping[str, Any], place: str = "") -> str:
    """The headline behind what it is of: a place among a run's evaluations, else the split."""
    value, uncertainty = metrics.get("value"), metrics.get("uncertainty")
    of = place or metrics.get("split")
    if not isinstance(value, int | float):
        return f"{of}: no score"
    interval = uncertainty.get("interval_95") if isinstance(uncertainty, dict) else None
    spread = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
    return f"{of} {metrics.get('metric')} {value:.4g}{spread}"
