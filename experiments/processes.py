"""Commands of ours as separate processes, which end with the one that started them."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

# -P: a folder of the user's where it runs, `models` or `tasks`, is not taken for a package of ours
MODULE = (sys.executable, "-P", "-m")


def run_process(command: Sequence[str], output: IO[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        command: program and arguments.
        output: file for what it prints; shown where None.
    """
    before = _die_with_parent if sys.platform == "linux" else None
    return subprocess.run(
        command, stdout=output, stderr=output, preexec_fn=before, check=False
    ).returncode


def _die_with_parent() -> None:
    """End this process with its parent, so that a killed grid leaves no run behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG
