"""A run's output folder: who may write into it, what it says of itself, where it can go on."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.files import check_writable, share, sync
from common.json_files import write_json
from evaluation.provenance import versions
from evaluation.training_log import STATE, WATCHED
from finetuning.training.checkpoints import CHECKPOINTS, newest
from finetuning.training.curves_chart import CURVES
from finetuning.training.run_state import describe_unfinished
from models.run_record import RUN_FILE


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder in use, unless it is to be gone on with or written anew.

    Raises:
        ValueError: in use, not a folder, not writable, or nothing in it to resume.
    """
    if resume and overwrite:
        raise ValueError("--resume goes on and --overwrite starts anew; pass one of them.")
    check_writable(folder)
    in_use = folder.is_dir() and any(folder.iterdir())
    if resume and not (folder / RUN_FILE).is_file():
        raise ValueError(
            f"Nothing to resume: {folder} holds no run ({RUN_FILE}); start one without --resume."
        )
    if in_use and not (resume or overwrite):
        raise ValueError(f"--output_dir {folder} {_what_is_in(folder)}")


def check_is_kept(folder: Path, starts: Mapping[str, str | None]) -> None:
    """Refuse to replace a folder that holds what the new run starts from.

    Args:
        folder: of the run, which `--overwrite` would empty.
        starts: by the name of the option the model and the adapter that it starts from.

    Raises:
        ValueError: one of them is this folder, or in it.
    """
    for name, start in starts.items():
        place = Path(start or "").expanduser().resolve()
        if start and place.exists() and place.is_relative_to(folder.resolve()):
            raise ValueError(
                f"--overwrite would replace --{name} {start}, which is in --output_dir {folder} "
                "and which the run starts from; give another --output_dir."
            )


def _what_is_in(folder: Path) -> str:
    """What a folder in use holds, and what can be done about it: the end of a sentence."""
    if not (folder / RUN_FILE).is_file():
        return (
            f"is not empty, and holds no run (no {RUN_FILE}); give another folder, or write into "
            "it by --overwrite."
        )
    otherwise = "replace it by --overwrite, give another folder"
    if unfinished := describe_unfinished(folder, otherwise):
        return f"is not empty: it {unfinished}"
    return (
        "is not empty; go on with the run in it by --resume, replace it by --overwrite, or give "
        "another folder."
    )


def resume_arguments(folder: Path) -> list[str]:
    """Return the arguments that make a training command resume or replace an earlier run.

    A folder that no run of ours began is left to the command, which refuses it.
    """
    if newest(folder) is not None:
        return ["--resume"]
    return ["--overwrite"] if (folder / RUN_FILE).is_file() else []


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote, once the new one is sure to start."""
    for name in (CHECKPOINTS, "evaluation", "tensorboard", "wandb"):
        shutil.rmtree(folder / name, ignore_errors=True)
    weights = ("adapter_model.safetensors", "adapter_config.json")
    # what a grid and the pipeline recorded is of the run that goes
    records = ("generation_metrics.json", "pipeline.json")
    for name in (*weights, *records, STATE, WATCHED, CURVES, "README.md", "sample.png"):
        (folder / name).unlink(missing_ok=True)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.json: what was asked, of which model and data, with which versions."""
    write_json(folder / RUN_FILE, {**run, "versions": versions()})


def save_adapter(model: Any, folder: Path) -> None:
    """Write a trained adapter into a run's folder; one that is there stays until it is whole."""
    beside = folder / ".writing"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        model.save_pretrained(beside)
        for path in sorted(beside.iterdir()):
            share(path)
            sync(path)
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync(folder)
