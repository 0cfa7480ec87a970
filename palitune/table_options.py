"""Options that name tables and other files of the user's own."""

from collections.abc import Sequence

import click

from palitune.command import Option
from tasks.qa_columns import COLUMNS
from tasks.registry import get_task
from tasks.table_images import SEPARATOR


def table_options(*names: str, has_columns: bool = True) -> list[click.Parameter]:
    """Make the options that name tables of the user's own, for tasks that read such.

    Args:
        names: of the options, `csv` or `SPLIT_csv`; each has a second name with `file` for `csv`.
        has_columns: whether options name the columns of a table too.
    """
    group = "Tables"
    columns = {  # the column, and what image_qa has by default
        "image": (
            "path or URL of the image, or several with | between them; may be repeated for a row's "
            "further images",
            "",
        ),
        "instruction": ("instruction", "; of image_qa question"),
        "response": ("response", "; of image_qa answer"),
    }
    files: list[click.Parameter] = [
        Option(
            [f"--{name}", f"--{name.removesuffix('csv')}file"],
            group=group,
            help="Read the split "
            f"{'to score or show' if name == 'csv' else name[:-4]} from this file: a table as "
            "CSV, JSON Lines, Parquet, a folder of images with metadata, or .tar shards; of "
            "conversations JSON, JSON Lines or Parquet.",
        )
        for name in names
    ]
    if not has_columns:
        return files
    return [
        *files,
        *(
            Option(
                [f"--{name}_column"],
                group=group,
                multiple=name == "image",
                callback=joined if name == "image" else None,
                help=f"Name the table's column with the {what} [default: the first there of "
                f"{', '.join(COLUMNS[name])}{other}].",
            )
            for name, (what, other) in columns.items()
        ),
        Option(
            ["--csv_lenient"],
            group=group,
            is_flag=True,
            help="Join the parts into which unquoted commas cut the last column of a CSV table.",
        ),
        Option(
            ["--question"],
            group=group,
            help="Ask this about every image of a table that has no column for it, as of captions.",
        ),
        encoding_option(),
    ]


def joined(_: click.Context, __: click.Parameter, values: Sequence[str]) -> str | None:
    """Return the names of the columns of a row's images as one text."""
    return SEPARATOR.join(values) or None


def encoding_option() -> Option:
    """Make the option that names the encoding of the user's own texts."""
    return Option(
        ["--encoding"],
        group="Tables",
        help="Read tables, and messages of frames_chat, in this encoding, such as cp949 or cp1252 "
        "[default: the run's, else UTF-8, or what the byte order mark of a file says].",
    )


def own_file_options(*names: str) -> list[click.Parameter]:
    """Make the options that name the files of these tasks, beyond what every task has."""
    return [
        Option([f"--{option}"], group="Tables", help=text)
        for name in names
        for option, text in get_task(name).own_files.items()
    ]
