"""The command that lists the tasks."""

import click

from common.terminal_table import align
from palitune.command import Command
from palitune.user_modules import module_options
from tasks.registry import get_task, task_names


def tasks_command() -> click.Command:
    """Return the command that lists the tasks; it loads those of installed packages."""
    return Command(
        "tasks",
        params=module_options(),
        callback=_list_tasks,
        help="List the tasks with their metric and splits.",
    )


def _list_tasks() -> None:
    tasks, faults = [], []
    for name in task_names():
        try:
            tasks.append(get_task(name))
        except ValueError as error:
            faults.append(str(error))
    rows = [[task.name, task.metric, ", ".join(task.splits)] for task in tasks]
    click.echo(align(rows, left=(0, 1, 2)))
    for fault in faults:
        click.echo(f"Left out: {fault}", err=True)
