"""An output folder that appears whole or not at all."""

import glob
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.files import sync


def check_output(out: Path) -> None:
    """Raise ValueError where a new folder could not be made."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; pass another output folder.")
    parent = next(place for place in out.absolute().parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{out} cannot be made: {parent} is read-only or no folder; pass another.")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder, which takes the name `out` once all is written.

    Raises:
        ValueError: `out` is in use or cannot be made.
    """
    out = out.expanduser().resolve()
    check_output(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    temporary = out.with_name(_temporary_name(out, os.getpid()))
    try:
        temporary.mkdir()
        yield temporary
        sync(temporary)
        if out.exists():
            out.rmdir()  # it is empty; Windows gives no folder the name of another
        temporary.rename(out)
    except BaseException:  # an interruption too
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(out.parent)


def _sweep(out: Path) -> None:
    """Remove what killed exports to the same folder left, of this machine alone."""
    for path in out.parent.glob(f"{glob.escape(_temporary_name(out, ''))}*"):
        process = path.name.rpartition("-")[2]
        if process.isdecimal() and not _is_running(int(process)):
            shutil.rmtree(path)


def _temporary_name(out: Path, process: object) -> str:
    """With the machine in it: on a shared disk the same number is another's process elsewhere."""
    return f"{out.name}.unfinished-{platform.node()}-{process}"


def _is_running(process: int) -> bool:
    import psutil  # on Windows `os.kill` would send the other process Ctrl-C

    return process != os.getpid() and psutil.pid_exists(process)  # ours had that number before
