"""The command that reads a split and decodes every image of it."""

from pathlib import Path
from typing import Any

import click
import msgspec

from common.json_files import check_replaceable, write_json
from palitune import options, table_options
from palitune.command import Option, count_option
from palitune.sources import make_source
from palitune.user_modules import TaskCommand, TaskOption, module_options
from tasks.registry import built_in_names, get_task
from tasks.usable import check_split


def check_command() -> click.Command:
    """Return the command that says which examples of a split can be used."""
    parameters: list[click.Parameter] = [
        TaskOption(["--task"], required=True, help="Read this task, one of {tasks}."),
        *module_options(),
        *options.source_options(),
        *table_options.table_options("csv"),
        *table_options.own_file_options(*built_in_names()),
        Option(["--split"], group="Data", help="Read this split [default: the task's first]."),
        count_option(
            "--num_workers",
            "Data",
            "Decode images in this many threads; auto takes one a processor.",
            default="auto",
        ),
        Option(
            ["--json", "json_file"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write the result to this file too.",
        ),
    ]
    return TaskCommand(
        "check",
        params=parameters,
        callback=_check,
        help="Read a split and decode every image of it; exit code 2 says that some cannot be "
        "used.",
    )


def _check(**values: Any) -> None:
    task = get_task(values["task"])
    if values["json_file"] is not None:
        check_replaceable(values["json_file"], "--json", "num_examples", "used", "reported")
    usable, faults = check_split(
        task, values["split"], make_source(task, values), values["num_workers"]
    )
    num_examples = len(usable) + len(faults)
    for fault in faults:
        click.echo(f"{fault.id}  {fault.file}  {' '.join(fault.reason.split())}")
    if values["json_file"] is not None:
        content = {
            "num_examples": num_examples,
            "used": len(usable),
            "reported": msgspec.to_builtins(faults),
        }
        write_json(values["json_file"], content)
    click.echo(f"{num_examples} examples: {len(usable)} usable, {len(faults)} reported")
    if faults:
        click.get_current_context().exit(2)
