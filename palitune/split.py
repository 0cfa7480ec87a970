"""The command that holds out a part of a table."""

from pathlib import Path

import click

from palitune.closing import go_on
from palitune.command import Command, Option, count_option
from palitune.table_options import joined
from tasks.base import Source
from tasks.qa_columns import names_of_columns
from tasks.split_table import split_table
from tasks.tables import guess_of_table

_SHARE = click.FloatRange(0, 1, max_open=True)


def split_command() -> click.Command:
    """Return the command `palitune split`."""
    return Command(
        "split",
        params=[
            click.Argument(["table"], type=click.Path(path_type=Path, dir_okay=False)),
            Option(
                ["--test"], type=_SHARE, default=0.2, show_default=True,
                help="Hold out about this share of the rows, by whole images, to score on.",
            ),
            Option(
                ["--val"], type=_SHARE, default=0.0, show_default=True,
                help="Hold out about this share of the rows, by whole images, for choosing a "
                "checkpoint.",
            ),
            Option(
                ["--image_column"],
                multiple=True,
                callback=joined,
                help="Keep rows together that share an image of this column; may be repeated for a "
                "row's further images [default: the usual names].",
            ),
            Option(["--encoding"], help="Read a table without a byte order mark in this encoding."),
            count_option(
                "--seed", "General", "Seed the choice with this number.", default=0, minimum=0
            ),
        ],
        callback=_split,
        help="Write the rows of TABLE to NAME_train and NAME_test beside it. Rows that share an "
        "image stay together: no image of the test is trained on.",
    )  # fmt: skip


def _split(
    table: Path, test: float, val: float, image_column: str | None, encoding: str | None, seed: int
) -> None:
    shares = {part: share for part, share in (("test", test), ("val", val)) if share}
    if not shares or test + val >= 1:
        raise ValueError(
            f"--test {test:g} and --val {val:g} must hold out something and leave something to "
            "train on: their sum lies between 0 and 1."
        )
    columns = {"image": image_column} if image_column else {}
    images = names_of_columns(Source(columns=columns), ["image"])
    if image_column is None and table.is_file():
        guessed = guess_of_table(table, images, encoding)
        if guessed:
            click.echo(f"Images are in the column {guessed['image']}, as its cells tell.", err=True)
            images = {"image": (guessed["image"],)}
    parts = split_table(table, shares, images, encoding=encoding, seed=seed)
    for part in parts:
        click.echo(f"{part.path}: {part.num_rows:,} rows, {part.num_images:,} images")
    click.echo(go_on([("inspect", parts[0].path)]))
