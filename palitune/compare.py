"""The command that compares two evaluations."""

import shutil
from pathlib import Path
from typing import Any

import click

from common.json_files import check_replaceable, write_json
from evaluation.compare import compare, table
from palitune.command import Command, Option, count_option


def compare_command() -> click.Command:
    """Return the command that compares two evaluations; it loads neither model nor data."""
    file = click.Path(path_type=Path)
    shown = "Show this many examples that rose, and this many that fell."
    return Command(
        "compare",
        params=[
            click.Argument(["a"], type=file),
            click.Argument(["b"], type=file),
            Option(["--allow_partial"], is_flag=True, help="Compare the examples that both have."),
            count_option("--num_changes", "General", shown, default=10, minimum=0),
            count_option(
                "--seed", "General", "Seed the bootstrap with this number.", default=0, minimum=0
            ),
            Option(["--output"], type=file, help="Write the comparison to this JSON file too."),
        ],
        callback=_compare,
        help="Compare two evaluations, example by example. A and B are files that eval wrote as "
        "predictions.jsonl, the folders with them, or runs with one evaluation.",
    )


def _compare(output: Path | None, **values: Any) -> None:
    if output is not None:
        check_replaceable(output, "--output", "files", "num_rose", "num_fell")
    comparison = compare(**values)
    if output is not None:
        write_json(output, comparison, ensure_ascii=False)
    click.echo(table(comparison, shutil.get_terminal_size().columns))
