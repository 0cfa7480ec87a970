"""The command that lists runs."""

import shlex
from pathlib import Path

import click

from common.terminal_table import align
from finetuning.training.run_list import ListedRun, find_runs
from palitune.command import Command

_HEAD = ("run", "task", "base", "score", "steps", "began", "state")


def runs_command() -> click.Command:
    """Return the command that lists runs; it loads neither model nor data."""
    return Command(
        "runs",
        params=[click.Argument(["folder"], type=click.Path(path_type=Path), default=Path("runs"))],
        callback=_list,
        help="List the runs in FOLDER [default: runs] with their scores, and say how to go on "
        "with those that were stopped.",
    )


def _list(folder: Path) -> None:
    runs, faults = find_runs(folder)
    if runs:
        click.echo(align([_HEAD, *map(_cells, runs)], left=range(len(_HEAD))))
    else:
        click.echo(f"There is no run in {folder}.")
    for fault in faults:
        click.echo(f"Left out: {fault}", err=True)
    stopped = [run for run in runs if run.state == "stopped"]
    if stopped:
        click.echo("\nTo go on with what was stopped:")
    for run in stopped:
        task = run.tasks[0] if len(run.tasks) == 1 else f"--task {','.join(run.tasks)}"
        place = shlex.quote(str(run.folder))
        click.echo(
            f"  palitune train {task} --config {place}/run.json --output_dir {place} --resume"
        )


def _cells(run: ListedRun) -> list[str]:
    steps = "-" if run.step is None else f"{run.step} of {run.num_steps}"
    scores = "; ".join(map(_score, run.scores)) or "-"
    began = run.began.strftime("%Y-%m-%d %H:%M")
    return [str(run.folder), ",".join(run.tasks), run.base, scores, steps, began, run.state]


def _score(metrics: dict[str, object]) -> str:
    value, uncertainty = metrics.get("value"), metrics.get("uncertainty")
    if not isinstance(value, int | float):
        return f"{metrics.get('split')}: no score"
    interval = uncertainty.get("interval_95") if isinstance(uncertainty, dict) else None
    spread = f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
    return f"{metrics.get('split')} {metrics.get('metric')} {value:.4g}{spread}"
