"""Memory that this process frees and soon takes again, as the C library handles it."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 256 * 2**20  # several tensors of a forward pass
_MAPPED = 32 * 2**20  # what glibc itself raises the bound to, step by step
_OF_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Have glibc keep up to 256 MB of freed memory for what is allocated next.

    On a CPU each tensor of a forward pass is allocated anew. glibc gives what lies free behind the
    last block back to the system at 64 MB or less, and the system clears it page by page when it is
    taken again: an eighth of the time of an evaluation of the embedded model
    (benchmarks/README.md). Nothing is changed without glibc, or where the user has set this.
    """
    if any(name in os.environ for name in _OF_USER):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, _MAPPED)  # alone, each of the two would undo glibc's own steps
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
