"""Where the curves of a training go: W&B, TensorBoard or nowhere."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from finetuning.training.recipe import ReportTo

_VARIABLES = ("WANDB_PROJECT", "WANDB_DIR", "TENSORBOARD_LOGGING_DIR")


def check_tracker(report_to: ReportTo) -> None:
    """Raise ValueError where W&B is asked for and is not installed, or nobody is logged in."""
    if report_to == "wandb" and find_spec("wandb") is None:
        raise ValueError(
            "--report_to wandb needs the package wandb, which is not installed: run "
            "`pip install -c constraints.txt -e .[wandb]`, or report to tensorboard."
        )
    if report_to != "wandb" or os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return
    import wandb

    if not wandb.login(prompt=False):
        raise ValueError(
            "--use_wandb needs a login: run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to log to a local folder."
        )


@contextmanager
def tracked(report_to: ReportTo, wandb_project: str | None, output_dir: Path) -> Iterator[None]:
    """Point the tracker into the output folder inside the block, and write out what it still holds.

    The library takes all that from the environment, which is afterwards as it was: a program may
    run several trainings.

    Args:
        report_to: the tracker.
        wandb_project: of W&B; None takes that of the environment.
        output_dir: of the run.
    """
    before = dict(os.environ)
    if report_to == "wandb":
        os.environ["WANDB_PROJECT"] = wandb_project or before.get("WANDB_PROJECT", "palitune")
        os.environ.setdefault("WANDB_DIR", str(output_dir))
    elif report_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(output_dir / "tensorboard")
    try:
        yield
        if report_to == "wandb":
            import wandb

            wandb.finish()
            wandb.teardown()  # it would keep this folder for the next training
    finally:
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in _VARIABLES if name in before})
