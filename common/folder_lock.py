"""A lock on a folder, which goes with the process that holds it.

It is `flock`, which Windows has not: there a folder is not locked, and that is said.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

logger = logging.getLogger(__name__)

_HELD: set[int] = set()  # descriptors of folders that this process has locked


def _leave_to_parent() -> None:
    # a lock goes with the last process that holds it, and a worker outlives a kill by seconds
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder inside the block; where there are none, say so and go on.

    Raises:
        BlockingIOError: another process holds it.
    """
    if not HAS_LOCKS:
        logger.warning("%s cannot be locked on this system: start nothing else in it.", folder)
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:  # a file system without locks
        logger.warning("%s cannot be locked: %s", folder, error.strerror)
    _HELD.add(descriptor)
    try:
        yield
    finally:
        _HELD.discard(descriptor)
        os.close(descriptor)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep a second command out of an output folder, which is made, and removed if it stays empty.

    Of several processes of one command the first alone holds the lock, which goes with it.

    Raises:
        ValueError: another one works in it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    missing = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BlockingIOError as error:
            raise ValueError(
                f"--output_dir {folder} is being written by another command; wait for it, or give "
                "another folder."
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # one that is in use, or gone
                for place in missing:  # what was made for a run that was then refused
                    place.rmdir()


def is_locked(folder: Path) -> bool:
    """Return True where a process holds the lock of a folder, False where that is not known."""
    if not HAS_LOCKS:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False
