"""The most memory that this process has had."""

import sys


def peak_memory_mb() -> float:
    """Return the most MiB that this process has had at once; where that is not kept, what it has.

    `ru_maxrss` counts KiB on Linux and bytes on macOS (getrusage(2) of each); Windows has no
    `resource`, and psutil gives the peak of its working set.
    """
    try:
        import resource
    except ImportError:
        import psutil

        memory = psutil.Process().memory_info()
        return float(getattr(memory, "peak_wset", memory.rss)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
