"""The runs in a folder with their scores and whether they ended, and evaluations beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.json_files import read_json
from common.near_paths import did_you_mean
from finetuning.training.run_state import RunState, state_of
from models.checkpoint import typed_name
from models.run_record import RUN_FILE, read_run, trained_on

METRICS = "metrics.json"
_DEPTH = 5  # evaluation/MODEL/TASK/SPLIT; grids and pipelines have their runs in folders


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

    def place_of(self, scored: Path) -> str:
        """Return what tells an evaluation from the run's others; nothing of the only one."""
        if len(self.scores) < 2:
            return ""
        return scored.relative_to(self.folder / "evaluation").as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEvaluation:
    """An evaluation that is part of no run: of a base, a merge, or a file of predictions.

    Attributes:
        folder: of the evaluation.
        task: that was scored.
        model: folder or Hub id of what answered, or the name of the file.
        metrics: its metrics.json.
        began: when its scores were written.
    """

    folder: Path
    task: str
    model: str
    metrics: dict[str, Any]
    began: datetime


def find_runs(root: Path) -> tuple[list[ListedRun], list[str]]:
    """Find the runs in a folder, itself among them, in the order of their names.

    Returns:
        The runs, and a sentence on each record, of a run or of its scores, that cannot be read.

    Raises:
        ValueError: there is no such folder.
    """
    if not root.is_dir():
        raise ValueError(
            f"{root} is no folder{did_you_mean(root, 'name the folder with the runs')}"
        )
    runs, faults = [], []
    for folder in _folders(root, RUN_FILE, _DEPTH):
        try:
            run, unread = read_listed_run(folder)
        except ValueError as error:
            faults.append(str(error))
            continue
        runs.append(run)
        faults += unread
    return runs, faults


def find_evaluations(root: Path) -> tuple[list[ListedEvaluation], list[str]]:
    """Find the evaluations in a folder, itself among them, that lie in no run, by their names.

    Args:
        root: the folder; it exists.

    Returns:
        The evaluations, and a sentence on each folder whose scores cannot be read.
    """
    found, faults = [], []
    for folder in _folders(root, METRICS, _DEPTH):
        above = (folder, *folder.parents)[: len(folder.relative_to(root).parts) + 1]
        if any((place / RUN_FILE).is_file() for place in above):
            continue
        try:
            metrics = read_json(folder / METRICS)
        except ValueError as error:
            faults.append(str(error))
            continue
        if isinstance(origin := metrics.get("provenance"), dict) and "task" in metrics:
            found.append(
                ListedEvaluation(
                    folder=folder,
                    task=str(metrics["task"]),
                    model=_model(origin),
                    metrics=metrics,
                    began=_time_of(folder / METRICS),
                )
            )
    return found, faults


def _model(origin: Mapping[str, Any]) -> str:
    """What answered, as one would type it here."""
    name = origin.get("adapter") or origin.get("base_model") or origin.get("predictions_file")
    return "unknown" if name is None else typed_name(name)


def _folders(root: Path, name: str, most: int) -> list[Path]:
    """The folders with a file of this name, this deep at most, in the order of their names."""
    patterns = ["/".join(["*"] * depth + [name]) for depth in range(most + 1)]
    return sorted(path.parent for pattern in patterns for path in root.glob(pattern))


def _time_of(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone()


def read_listed_run(folder: Path) -> tuple[ListedRun, list[str]]:
    """Read what the files of a run tell, and say which of its scores cannot be read.

    Raises:
        ValueError: its record cannot be read.
    """
    run = read_run(folder)
    scores, faults = [], []
    for path in sorted(folder.glob(f"evaluation/**/{METRICS}")):
        try:
            scores.append((path.parent, read_json(path)))
        except ValueError as error:
            faults.append(str(error))
    listed = ListedRun(
        folder=folder,
        tasks=tuple(trained_on(run)),
        base=str(run.get("base_model", "unknown")),
        settings=run["settings"],
        scores=tuple(scores),
        state=state_of(folder),
        began=_time_of(folder / RUN_FILE),
    )
    return listed, faults
