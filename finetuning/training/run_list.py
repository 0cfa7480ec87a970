"""The runs in a folder: their tasks, their scores, and whether they came to their end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.json_files import read_json
from finetuning.training.run_state import RunState, state_of
from models.run_record import RUN_FILE, read_run, trained_on

_DEPTH = 3  # grids and pipelines have their runs in folders of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run as its files tell.

    Attributes:
        folder: of the run.
        tasks: what it was trained on; of a merge what its parts were.
        base: folder or Hub id of its base.
        settings: of its run.json.
        scores: of each evaluation in it the folder and the metrics.json.
        state: how far it came.
        began: when its record was written.
    """

    folder: Path
    tasks: tuple[str, ...]
    base: str
    settings: Mapping[str, Any]
    scores: tuple[tuple[Path, dict[str, Any]], ...]
    state: RunState
    began: datetime


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
            runs.append(read_listed_run(folder))
        except ValueError as error:
            faults.append(str(error))
    return runs, faults


def _folders(root: Path) -> Iterator[Path]:
    patterns = ["/".join(["*"] * depth + [RUN_FILE]) for depth in range(_DEPTH + 1)]
    yield from sorted(path.parent for pattern in patterns for path in root.glob(pattern))


def read_listed_run(folder: Path) -> ListedRun:
    """Read what the files of a run tell.

    Raises:
        ValueError: its record cannot be read.
    """
    run = read_run(folder)
    metrics = sorted(folder.glob("evaluation/**/metrics.json"))
    return ListedRun(
        folder=folder,
        tasks=tuple(trained_on(run)),
        base=str(run.get("base_model", "unknown")),
        settings=run["settings"],
        scores=tuple((path.parent, read_json(path)) for path in metrics),
        state=state_of(folder),
        began=datetime.fromtimestamp((folder / RUN_FILE).stat().st_mtime, UTC).astimezone(),
    )
