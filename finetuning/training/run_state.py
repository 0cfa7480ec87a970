"""The state of the run in a folder, and the command that goes on with it."""

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.folder_lock import is_locked
from finetuning.training.checkpoints import newest, read_state
from models.run_record import RUN_FILE, read_run, trained_on

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunState:
    """The progress of a run.

    Attributes:
        state: `finished`, `running`, `stopped` or `merged`.
        step, num_steps: what is saved of it; None where no step is, or it is a merge.
    """

    state: str
    step: int | None = None
    num_steps: int | None = None


def state_of(folder: Path) -> RunState:
    """Tell by its files and its lock how far the run in a folder came.

    Raises:
        ValueError: its record cannot be read.
    """
    if "merged_from" in read_run(folder):
        return RunState("merged")
    # written at the very end; before it the newest checkpoint says where a run stands
    is_finished = _is_finished(folder)
    place = folder if is_finished else newest(folder)
    progress = {} if place is None else read_state(place)
    state = "finished" if is_finished else "stopped"
    return RunState(
        "running" if is_locked(folder) else state,
        progress.get("global_step"),
        progress.get("max_steps"),
    )


def resume_command(folder: Path, tasks: Sequence[str]) -> str:
    """Return what to type to go on with the run in a folder.

    Args:
        folder: of the run.
        tasks: that it trains on.
    """
    task = tasks[0] if len(tasks) == 1 else f"--task {','.join(tasks)}"
    place = shlex.quote(str(folder))
    return f"palitune train {task} --config {place}/run.json --output_dir {place} --resume"


def describe_unfinished(folder: Path, otherwise: str = "") -> str | None:
    """Say of an unfinished run where it stands and how it goes on, as the end of a sentence.

    Args:
        folder: of the run.
        otherwise: what else can be done with a run that was stopped.

    Returns:
        None where the folder holds no run, or one that came to its end.
    """
    if not (folder / RUN_FILE).is_file():
        return None
    found = state_of(folder)
    saved = "no step" if found.step is None else f"step {found.step} of {found.num_steps}"
    if found.state == "running":
        return f"holds a training at work, with {saved} saved; wait for its end."
    if found.state != "stopped":
        return None
    command = resume_command(folder, trained_on(read_run(folder)))
    choice = f"{otherwise}, or " if otherwise else ""
    return f"holds a training that stopped, with {saved} saved; {choice}go on with it ({command})."


def check_came_to_its_end(model_path: str) -> None:
    """Raise ValueError where a name is that of an unfinished run, which has no adapter yet.

    A run that went on after its end has the adapter of that end, which is said.

    Args:
        model_path: folder or Hub id of a model.
    """
    folder = Path(model_path).expanduser()
    if (folder / "config.json").is_file():
        return
    has_adapter = (folder / "adapter_config.json").is_file()
    if has_adapter and (not (folder / RUN_FILE).is_file() or _is_finished(folder)):
        return
    last, weights = newest(folder), folder / "adapter_model.safetensors"
    if has_adapter and (last is None or not weights.is_file() or _is_newer(weights, last)):
        return
    otherwise = "" if last is None else f"take its newest checkpoint, {last}"
    unfinished = describe_unfinished(folder, otherwise)
    if unfinished and has_adapter:
        logger.warning("Warning: the adapter in %s is of an earlier end: it %s", folder, unfinished)
    elif unfinished:
        raise ValueError(f"{folder} {unfinished}")


def _is_finished(folder: Path) -> bool:
    return (folder / "trainer_state.json").is_file()


def _is_newer(weights: Path, checkpoint: Path) -> bool:
    """Return True where a run's adapter was written after a checkpoint, and so at its end."""
    return weights.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns
