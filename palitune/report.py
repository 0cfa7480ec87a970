"""The command that writes evaluations as one page."""

from pathlib import Path

import click

from evaluation.report_page import join_pages
from palitune.command import Command, Option


def report_command() -> click.Command:
    """Return the command that joins evaluations in a page; it loads neither model nor data."""
    file = click.Path(path_type=Path)
    return Command(
        "report",
        params=[
            click.Argument(["evaluations"], type=file, nargs=-1, required=True),
            Option(["--allow_partial"], is_flag=True, help="Show the examples that all have."),
            Option(
                ["--output"],
                type=file,
                default=Path("report.html"),
                show_default=True,
                help="Write the page to this file; one that is no report is not overwritten.",
            ),
        ],
        callback=_report,
        help="Write one page on one or several evaluations of the same examples: figures, slices, "
        "and every example with its image. EVALUATIONS are files that eval wrote as "
        "predictions.jsonl, the folders with them, or runs with one evaluation; the first is what "
        "the others are compared with.",
    )


def _report(evaluations: tuple[Path, ...], allow_partial: bool, output: Path) -> None:
    page = join_pages(evaluations, output, allow_partial=allow_partial)
    for run in page.runs:
        value = "no score" if run.value is None else f"{page.metric} {run.value:.4g}"
        click.echo(f"{run.name}: {value}, {run.folder}")
    click.echo(f"Wrote {output}: {len(page.rows)} examples, {len(page.images)} images.")
