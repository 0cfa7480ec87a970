"""The command line: one file a command."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    *("common", "evaluation", "experiments", "finetuning", "merging"),
    *("models", "palitune", "serving", "synthetic", "tasks"),
)


def _hidden_packages(home: Path) -> list[tuple[str, Path]]:
    """Find the packages in whose place Python would import something else, and what that is.

    Args:
        home: folder of the packages.
    """
    found = []
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
        if spec is not None and str(home / name) not in [str(Path(p).resolve()) for p in places]:
            found.append((name, Path(places[0]).absolute()))
    return found


def _check_packages() -> None:
    """Leave Python with one sentence where a folder of the user's hides one of ours."""
    for name, place in _hidden_packages(Path(__file__).resolve().parents[1]):
        print(
            f"Error: {place} is found in place of the package {name} of PaliTune: rename it, or "
            "start the program from another folder (a script: keep it in another).",
            file=sys.stderr,
        )
        raise SystemExit(2)


_check_packages()
# Before OpenMP is loaded: its threads spin where they wait, by default so long that a training
# beside another program took many times as long (benchmarks/shared_cores.py).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from common.allocator import keep_freed_memory  # noqa: E402  # behind the check of its package

keep_freed_memory()
