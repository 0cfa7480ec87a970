"""The kind of command and option that every command here is: groups, hyphens, errors, log."""

import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from common import processes
from common.hints import hint, hint_all
from common.interruption import Interrupted
from common.near_paths import cannot_be_read, did_you_mean, near_path
from common.progress import close_all, is_terminal
from common.system_faults import (
    is_disk_full,
    is_out_of_memory,
    is_unread,
    killed_worker,
    let_workers_end,
    lost_process,
    quiet_workers,
)
from common.user_code import place_in_user_code, said
from models.settings import Auto
from palitune import PACKAGES

_OURS = tuple(str(Path(__file__).resolve().parents[1] / package) + os.sep for package in PACKAGES)
_CALLS = "PALITUNE_TRACEBACK=1 shows the calls that led there."
_FORESEEN = (ValueError, OSError, RuntimeError, MemoryError)
_OPTION = re.compile(r"--?[A-Za-z]")
_WORKER_ERROR = re.compile(
    r"^Caught (\w+) in DataLoader worker process .*\n(?:.*\n)*\1: (.*)", re.M
)


class UserError(click.ClickException):
    """Something that the user can mend."""

    exit_code = 2


class SystemFault(click.ClickException):
    """Something that the user cannot mend by other input."""

    exit_code = 1


class Option(click.Option):
    """An option that knows under which heading `--help` shows it."""

    def __init__(self, *args: Any, group: str = "General", **kwargs: Any) -> None:
        self.group = group
        super().__init__(*args, **kwargs)


class Command(click.Command):
    """Options by group in `--help`, hyphens as good as underscores, mistakes in one sentence."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.context_settings = {
            "token_normalize_func": lambda text: text.replace("-", "_"),
            "max_content_width": 100,
            "help_option_names": ["-h", "--help"],
        }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; options of another program are told by their names here."""
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            unknown = self._unknown_options(ctx, words) or [error.option_name]
            present = {name for p in self.get_params(ctx) for name in (*p.opts, *p.secondary_opts)}
            if len(unknown) == 1 and hint(unknown[0], present) is None:
                raise
            raise click.UsageError(hint_all(unknown, present), ctx) from error

    def _unknown_options(self, ctx: click.Context, words: list[str]) -> list[str]:
        """All options of a command line that are none here; none where it cannot be read so far."""
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True
        before = words[: words.index("--")] if "--" in words else words
        try:
            _, left, _ = parser.parse_args(list(before))
        except click.UsageError:
            return []
        names = [word.partition("=")[0] for word in left if _OPTION.match(word)]
        dashes = [name[: len(name) - len(name.lstrip("-"))] for name in names]
        plain = [name.lstrip("-").replace("-", "_") for name in names]
        return list(dict.fromkeys(map("".join, zip(dashes, plain, strict=True))))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options under their groups, in the order in which groups first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "General"), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a mistake of the user becomes one sentence and exit code 2, a fault exit code 1."""
        show_log()
        try:
            with _ending_in_order(), quiet_workers():
                try:
                    return super().invoke(ctx)
                finally:
                    close_all()  # the terminal is whole before anything is said
        except Interrupted as stop:
            if processes.rank() == 0:
                click.echo(str(stop), err=True)
            ctx.exit(128 + stop.number)
        except KeyboardInterrupt:
            click.echo("Stopped at once by Ctrl-C.", err=True)
            ctx.exit(128 + signal.SIGINT)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except SystemExit as error:
            if (own := place_in_user_code(error, _OURS)) is None:
                raise
            let_workers_end()  # the exit code may be 0, and nothing was done
            raise UserError(f"{own} ends the program; let it raise an error instead.") from error
        except Exception as error:
            let_workers_end()
            if os.environ.get("PALITUNE_TRACEBACK") or is_unread(error):
                raise
            sentence = _sentence(error)
            if sentence is None:
                raise  # not foreseen: the traceback is what a bug report needs
            is_users = place_in_user_code(error, _OURS) is not None
            is_fault = isinstance(error, RuntimeError | MemoryError) and not is_users
            raise (SystemFault if is_fault else UserError)(sentence) from error


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM end a command as an exit does: workers and temporary files go with it."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sentence(error: Exception) -> str | None:
    """The message for the user, where the error is one that we raised or the system did."""
    if isinstance(error, OSError) and error.strerror:
        if isinstance(error, FileNotFoundError) and near_path(error.filename or "."):
            return cannot_be_read(error.filename, error)
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}."
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's
        return "A path begins with ~ and the name of nobody here; write the folder out."
    own = place_in_user_code(error, _OURS)
    if caught := _WORKER_ERROR.search(str(error)):
        if own:
            return f"{own}: {caught[1]}: {caught[2].rstrip('.')}. {_CALLS}"
        return caught[2] if isinstance(error, _FORESEEN) else None
    if is_out_of_memory(error):
        return (
            "Memory ran out: take a smaller batch or smaller images, fewer workers, or "
            "--quantization nf4."
        )
    if isinstance(error, RuntimeError) and (lost := killed_worker(error) or lost_process(error)):
        return lost
    if is_disk_full(error):
        return "The disk is full, or a quota is: free some space and try again."
    if own:
        return f"{own}: {said(error)}. {_CALLS}"
    frames = traceback.extract_tb(error.__traceback__)
    is_ours = frames and frames[-1].filename.startswith(_OURS)
    return str(error) if is_ours and isinstance(error, _FORESEEN) else None


def say(text: str) -> None:
    """Print a text on standard output, above the bars that are being drawn."""
    click.echo(text, file=sys.stdout)


class _Echo(logging.Handler):
    """Writes to what is standard error at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), file=sys.stderr)  # named, or click goes round the bars


def show_log() -> None:
    """Show what our packages log, and less of what the libraries do."""
    handler = _Echo()
    if not logging.root.handlers:  # libraries that find none give the root one, for our lines too
        logging.root.addHandler(logging.NullHandler())
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(handler)
        logger.setLevel(logging.ERROR if processes.rank() else logging.INFO)  # one speaks for all
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # what the libraries warn each other of is nothing that a user could change
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers warn otherwise
    if processes.rank() or not is_terminal():  # each of their steps would be a line of a log
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class ExistingFile(click.Path):
    """The path of a file that must be there; where it is not, the nearest name is."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if not os.path.exists(value):
            self.fail(f"File '{value}' does not exist{did_you_mean(value)}", param, ctx)
        return super().convert(value, param, ctx)


class CountOrAuto(click.ParamType[int | Auto]):
    """An option's value that is a number, or `auto` where the machine and the data decide it."""

    name = "number or auto"

    def __init__(self, minimum: int | None = None) -> None:
        self.number = click.IntRange(min=minimum)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Auto:
        """Return the number, or `auto`."""
        if value == "auto":
            return "auto"
        if not str(value).removeprefix("-").isdecimal():
            self.fail(f"'{value}' is neither a whole number nor auto.", param, ctx)
        return self.number.convert(value, param, ctx)


def count_option(
    name: str,
    group: str,
    help: str,
    default: int | Auto | None = None,
    minimum: int = 1,
) -> Option:
    """Make an option that counts something, or how many at most."""
    return Option(
        [name],
        group=group,
        type=CountOrAuto(minimum) if default == "auto" else click.IntRange(min=minimum),
        default=default,
        show_default=default is not None,
        help=help,
    )
