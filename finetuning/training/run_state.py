"""The state of the run in a folder, and the command that goes on with it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.folder_lock import is_locked
from finetuning.training.checkpoints import newest, read_state
from models.run_record import RUN_FILE, read_run, trained_on


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
    is_finished = (folder / "trainer_state.json").is_file()
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

    Args:
        model_path: folder or Hub id of a model.
    """
    folder = Path(model_path).expanduser()
    if any((folder / name).is_file() for name in ("adapter_config.json", "config.json")):
        return
    last = newest(folder)
    otherwise = "" if last is None else f"take its newest checkpoint, {last}"
    if unfinished := describe_unfinished(folder, otherwise):
        raise ValueError(f"{folder} {unfinished}")
