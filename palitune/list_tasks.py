"""The command that lists the tasks."""

import click

from common.terminal_table import align
from palitune.command import Command
from palitune.user_modules import module_options
from tasks.registry import known_tasks


def tasks_command() -> click.Command:
    """Return the command that lists the tasks; it loads those of installed packages."""
    return Command(
        "tasks",
        params=module_options(),
        callback=_list_tasks,
        help="List the tasks with their metric and splits.",
    )


def _list_tasks() -> None:
    rows = [[task.name, task.metric, ", ".join(task.splits)] for task in known_tasks()]
    click.echo(align(rows, left=(0, 1, 2)))
