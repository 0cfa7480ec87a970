"""Which trackers the curves of a training go to: their names, and whether they are there."""

import os
from importlib.util import find_spec

PROJECT = "palitune"
# it writes into a task of Flyte alone, and the library does not say whether it is there
_NOT_OURS = {"flyte"}


def tracker_names(report_to: str) -> list[str]:
    """Return the trackers that a setting names, each once; none for `none`."""
    names = [name.strip() for name in report_to.split(",")]
    return [name for name in dict.fromkeys(names) if name not in ("", "none")]


def add_tracker(report_to: str, name: str) -> str:
    """Return the setting with one tracker more."""
    return ",".join(dict.fromkeys([*tracker_names(report_to), name]))


def check_trackers(report_to: str) -> None:
    """Verify that each tracker is known and installed, and that W&B has a login.

    The names are those of transformers,
    https://huggingface.co/docs/transformers/main_classes/trainer (`report_to`).

    Raises:
        ValueError: one is not.
    """
    names = tracker_names(report_to)
    if "wandb" in names and find_spec("wandb"):  # asked before the slow import
        _check_login()
    if not names:
        return
    from transformers.integrations import integration_utils as integrations

    known = set(integrations.INTEGRATION_TO_CALLBACK) - _NOT_OURS
    for name in names:
        if name not in known:
            raise ValueError(
                f"--report_to has no tracker '{name}'; take none, or some of "
                f"{', '.join(sorted(known))}, separated by commas."
            )
    installed = integrations.get_available_reporting_integrations()
    for name in names:
        if name not in installed:
            raise ValueError(
                f"--report_to {name} needs the package {name}, which is not installed: run "
                f"`pip install {name}`, or report to tensorboard."
            )


def _check_login() -> None:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return
    import wandb

    if not wandb.login(prompt=False):
        raise ValueError(
            "--use_wandb needs a login: run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to log to a local folder."
        )
