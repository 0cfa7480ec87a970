"""The line that a stopped command says to type, and the block in which it is said."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.interruption import Interrupted


@contextmanager
def saying_how_to_resume(record: Path | None = None) -> Iterator[None]:
    """Say what to type to go on with the work inside the block, where it is stopped.

    Args:
        record: a file that is written, or written anew, when the work begins. Before it there is
            nothing to go on with, unless `--resume` was typed.
    """
    before = _written(record)

    def how() -> str:
        if record is None or "--resume" in sys.argv or _written(record) != before:
            return f"it goes on by\n  {resume_command(sys.argv)}"
        return f"nothing was begun, start again by\n  {_typed(sys.argv)}"

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(error, SystemExit) and error.code != 128 + number:
            raise
        raise Interrupted(number, how()) from error
    except Interrupted as stop:
        sentence = how()
        what = f"{stop.message} {sentence[0].upper()}{sentence[1:]}"
        raise Interrupted(stop.number, what) from stop


def _written(record: Path | None) -> int | None:
    """When a file was written; None where there is none."""
    return record.stat().st_mtime_ns if record is not None and record.is_file() else None


def resume_command(arguments: Sequence[str]) -> str:
    """Return what to type to go on with what these arguments started."""
    program, *words = arguments
    words = [word for word in words if word not in ("--resume", "--overwrite")]
    return _typed([program, *words, "--resume"])


def _typed(arguments: Sequence[str]) -> str:
    """Return what to type for these arguments."""
    program, *words = arguments
    start = ["python", program] if program.endswith(".py") else [Path(program).name]
    num_processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if num_processes != "1":
        start = ["torchrun", "--nproc_per_node", num_processes, program]
    return shlex.join([*start, *words])
