"""The command that says what a file or a folder is, and what to type to use it."""

from pathlib import Path

import click

from common.terminal_table import align
from palitune.command import Command
from palitune.user_modules import module_options
from tasks.inspection import printable


def inspect_command() -> click.Command:
    """Return the command that looks at a path; it loads no model and decodes no image."""
    return Command(
        "inspect",
        params=[
            click.Argument(["path"], type=click.Path(path_type=Path)),
            *module_options(),
        ],
        callback=_inspect,
        help="Say what the file or folder PATH is: its kind, columns and first rows, which task "
        "reads it, and the commands that check it, show it and train on it.",
    )


def _inspect(path: Path) -> None:
    from evaluation.inspecting import inspect

    found = inspect(path.expanduser())
    click.echo(f"{printable(str(path))}: {found.what}")
    if found.facts:
        facts = [(name, printable(text)) for name, text in found.facts]
        click.echo(align(facts, left=(0, 1), indent=2))
    if found.rows:
        click.echo("  first rows")
    for row in found.rows:
        click.echo(f"    {row}")
    for note in found.notes:
        click.echo(printable(note))
    if found.commands:
        click.echo()
    for line in found.commands:
        click.echo(printable(line))
