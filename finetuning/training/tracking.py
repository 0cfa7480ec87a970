"""Where the trackers of a training write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetuning.training.tracker_names import PROJECT, tracker_names
from finetuning.training.trackers import Trackers

_VARIABLES = (
    *("WANDB_PROJECT", "WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME"),
    "TENSORBOARD_LOGGING_DIR",
)


@contextmanager
def tracked(report_to: str, wandb_project: str | None, output_dir: Path) -> Iterator[Trackers]:
    """Point the trackers into the output folder inside the block; close them at its end.

    The library takes all that from the environment, which is afterwards as it was: a program may
    run several trainings.

    Args:
        report_to: names of trackers, with commas between.
        wandb_project: of W&B; None takes that of the environment.
        output_dir: of the run.

    Yields:
        The trackers, for the trainer to be given to.
    """
    before, names = dict(os.environ), tracker_names(report_to)
    if "wandb" in names:
        os.environ["WANDB_PROJECT"] = wandb_project or before.get("WANDB_PROJECT", PROJECT)
        os.environ.setdefault("WANDB_DIR", str(output_dir))
        if (run := _run_of_wandb(output_dir)) is not None and "WANDB_RUN_ID" not in before:
            os.environ |= {"WANDB_RUN_ID": run, "WANDB_RESUME": "allow"}
    if "tensorboard" in names:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(output_dir / "tensorboard")
    trackers = Trackers()
    try:
        yield trackers
        trackers.close()
        if "wandb" in names:
            import wandb

            wandb.finish()
            wandb.teardown()  # it would keep this folder for the next training
    finally:
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in _VARIABLES if name in before})


def _run_of_wandb(output_dir: Path) -> str | None:
    """The W&B run of a training that was stopped in this folder: the end of its newest folder."""
    folders = (output_dir / "wandb").glob("*run-*-*")
    names = sorted(folder.name.removeprefix("offline-") for folder in folders)
    return names[-1].rpartition("-")[2] if names else None
