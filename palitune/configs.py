"""The command that writes example files of the grid and of the pipeline."""

from pathlib import Path

import click

from experiments.example_configs import write_examples
from palitune.command import Command


def configs_command() -> click.Command:
    """Return the command `palitune configs`."""
    folder = click.Path(path_type=Path, file_okay=False)
    return Command(
        "configs",
        params=[click.Argument(["folder"], type=folder, default="configs")],
        callback=_write,
        help="Write example files for `ablate` and `pipeline` into FOLDER [default: configs]. A "
        "file of yours is not overwritten.",
    )


def _write(folder: Path) -> None:
    for path in write_examples(folder):
        click.echo(path)
