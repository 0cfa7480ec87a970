"""The runs in a folder: their tasks, their scores, and whether they came to their end."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.json_files import read_json
from finetuning.training.checkpoints import newest, read_state
from models.run_record import RUN_FILE, read_run, trained_on

_DEPTH = 3  # grids and pipelines have their runs in folders of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run as its files tell.

    Attributes:
        folder: of the run.
        tasks: what it was trained on; of a merge what its parts were.
        base: folder or Hub id of its base.
        scores: of each evaluation in it the metrics.json.
        step, num_steps: how far it came; None where no step was saved, or it is a merge.
        began: when its record was written.
        state: `finished`, `running`, `stopped` or `merged`.
    """

    folder: Path
    tasks: tuple[str, ...]
    base: str
    scores: tuple[dict[str, Any], ...]
    step: int | None
    num_steps: int | None
    began: datetime
    state: str


def find_runs(root: Path) -> tuple[list[ListedRun], list[str]]:
    """Find the runs in a folder, itself among them, in the order of their names.

    Returns:
        The runs, and a sentence on each folder whose record cannot be read.

    Raises:
        ValueError: there is no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; name the folder with the runs.")
    runs, faults = [], []
    for folder in _folders(root):
        try:
            runs.append(_read(folder))
        except ValueError as error:
            faults.append(str(error))
    return runs, faults


def _folders(root: Path) -> Iterator[Path]:
    patterns = ["/".join(["*"] * depth + [RUN_FILE]) for depth in range(_DEPTH + 1)]
    yield from sorted(path.parent for pattern in patterns for path in root.glob(pattern))


def _read(folder: Path) -> ListedRun:
    run = read_run(folder)
    is_merge = "merged_from" in run
    last = None if is_merge else newest(folder)
    # written at the very end; before it the newest checkpoint says where a run stands
    is_finished = (folder / "trainer_state.json").is_file()
    place = folder if is_finished else last
    progress = {} if is_merge or place is None else read_state(place)
    metrics = sorted(folder.glob("evaluation/**/metrics.json"))
    if is_merge:
        state = "merged"
    elif _is_locked(folder):
        state = "running"
    else:
        state = "finished" if is_finished else "stopped"
    return ListedRun(
        folder=folder,
        tasks=tuple(trained_on(run)),
        base=str(run.get("base_model", "unknown")),
        scores=tuple(read_json(path) for path in metrics),
        step=progress.get("global_step"),
        num_steps=progress.get("max_steps"),
        began=datetime.fromtimestamp((folder / RUN_FILE).stat().st_mtime, UTC).astimezone(),
        state=state,
    )


def _is_locked(folder: Path) -> bool:
    """Return True where a training works in a folder, by the lock that it holds."""
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
