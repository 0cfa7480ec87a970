"""Faults of the system in the errors of libraries: memory, disk and worker processes."""

import errno
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# what safetensors, tokenizers and torch.save say of it
_FULL_TEXT = re.compile(
    r"No space left|quota exceeded|File too large|file write failed|iostream error", re.I
)
# what gloo and NCCL say where another process is gone
_LOST = re.compile(
    r"(?:gloo|nccl).*(?:closed|reset|refused|peer|remote|abort|timed? ?out)", re.I | re.S
)
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True where an error says that memory could not be had, on a GPU or beside it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of a GPU
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "alloc" in text and "memory" in text


def is_disk_full(error: BaseException) -> bool:
    """Return True where an error says that a disk or a quota is full."""
    return getattr(error, "errno", None) in _FULL or _FULL_TEXT.search(str(error)) is not None


def killed_worker(error: BaseException) -> str | None:
    """Return a sentence where an error says that a process that reads images was killed."""
    found = _WORKER.search(str(error))
    if found is None and not isinstance(error, ConnectionError | EOFError):
        return None
    which = f" (process {found[1]})" if found else ""
    return (
        f"A data worker{which} was killed, most often for want of memory: go on by --resume with "
        "fewer --num_workers."
    )


def let_workers_end() -> None:
    """Let the other workers end without a word, once an error is being told.

    PyTorch raises an error in whatever runs when a worker ends: that could be the telling.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def quiet_workers() -> Iterator[None]:
    """Let workers that start inside the block end without a word where nobody reads from them.

    A worker offers each tensor from a thread of its own; a reader that was stopped between the
    question and the answer leaves it an error that says nothing to a user.
    """
    owner, before = os.getpid(), sys.excepthook

    def say(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if os.getpid() == owner or not isinstance(error, ConnectionError | EOFError):
            before(kind, error, at)

    sys.excepthook = say
    try:
        yield
    finally:
        sys.excepthook = before


def lost_process(error: BaseException) -> str | None:
    """Return a sentence where an error says that another process of the same job has ended."""
    if not isinstance(error, RuntimeError) or _LOST.search(str(error)) is None:
        return None
    return (
        "Another process of this job has ended, and its own message says why: go on by --resume, "
        "with as many processes."
    )


def is_unread(error: Exception) -> bool:
    """Return True where who read our output has left, as `head` does: click ends without a word."""
    if not isinstance(error, BrokenPipeError):
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call here, or no such output
        return False
