"""The number of processes that read images, and of threads where a process reads its own."""

import multiprocessing
import os
from pathlib import Path
from typing import Literal

# A process takes 0.12 s to start and each batch some to be handed over: of so few images, 8 ms
# each at 448 pixels, nothing is gained that a user would notice.
FEW_EXAMPLES = 1000
_MOST = 8  # these read over 400 photographs a second, more than one GPU takes
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """Count the processors that this process may use, by its affinity and its group's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


def count_workers(asked: int | Literal["auto"], num_examples: int) -> int:
    """Return how many processes read the images of so many examples.

    Args:
        asked: their number, or `auto`: none for few examples, else one a processor that this
            machine's processes of one command leave free, eight at most.
        num_examples: the examples that are read.
    """
    if asked != "auto":
        return asked
    if num_examples < FEW_EXAMPLES:
        return 0
    return max(0, min(_MOST, _own_cpus() - 1))


def count_threads() -> int:
    """Return how many threads of this process decode images: one in a process that only reads."""
    if multiprocessing.parent_process() is not None:
        return 1
    return max(1, min(_MOST, _own_cpus()))


def _own_cpus() -> int:
    """Count the processors, shared out among this machine's processes of one command."""
    return usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
