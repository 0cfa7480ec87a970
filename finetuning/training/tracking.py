"""Where the curves of a training go: W&B, TensorBoard or nowhere."""

import os
from importlib.util import find_spec
from pathlib import Path

from finetuning.training.recipe import ReportTo


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


def prepare_tracker(report_to: ReportTo, wandb_project: str | None, output_dir: Path) -> None:
    """Point the tracker into the output folder; the library takes that from the environment."""
    if report_to == "wandb":
        os.environ["WANDB_PROJECT"] = wandb_project or os.environ.get("WANDB_PROJECT", "palitune")
        os.environ.setdefault("WANDB_DIR", str(output_dir))
    elif report_to == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(output_dir / "tensorboard")


def finish_tracker(report_to: ReportTo) -> None:
    """Write out what the tracker still holds; a program may run several trainings."""
    if report_to == "wandb":
        import wandb

        wandb.finish()
