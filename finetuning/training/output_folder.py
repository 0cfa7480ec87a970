"""A run's output folder: who may write into it, what it says of itself, where it can go on."""

import fcntl
import logging
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.files import check_writable
from common.json_files import read_json, write_json
from evaluation.provenance import versions
from models.run_record import RUN_FILE

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
_PATIENCE_S = 10.0  # a worker looks for its parent every 5 s
# without one of these the library resumes all the same, from a fresh optimiser or other noise
_CHECKPOINT_FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state*.pth",  # one per process
    "trainer_state.json",
)


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder in use, unless it is to be gone on with or written anew.

    Raises:
        ValueError: in use, not a folder, not writable, or nothing in it to resume.
    """
    if resume and overwrite:
        raise ValueError("--resume goes on and --overwrite starts anew; pass one of them.")
    check_writable(folder)
    in_use = folder.is_dir() and any(folder.iterdir())
    if in_use:
        with working_in(folder):  # is another one at it?
            pass
    if resume:
        last_checkpoint(folder)
    elif in_use and not overwrite:
        raise ValueError(
            f"--output_dir {folder} is not empty; go on with the run in it by --resume, replace "
            "it by --overwrite, or give another folder."
        )


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep a second training out of a folder.

    Of several processes of one training the first alone holds the lock, which goes with it, or
    with the workers that read images for it: those outlive a kill by some seconds.

    Raises:
        ValueError: another one works in it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, time.monotonic() + _PATIENCE_S)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ValueError(
            f"--output_dir {folder} is being written by another training; wait for it, or give "
            "another folder."
        ) from error
    except OSError as error:  # a file system without locks
        logger.warning("%s cannot be locked: %s", folder, error.strerror)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def last_checkpoint(folder: Path) -> Path:
    """Find the newest checkpoint that is complete; a torn one is passed over.

    Raises:
        ValueError: there is none.
    """
    found = [
        path
        for path in (folder / CHECKPOINTS).glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit() and _is_complete(path)
    ]
    if not found:
        raise ValueError(
            f"Nothing to resume: {folder / CHECKPOINTS} holds no complete checkpoint; "
            "start anew by --overwrite."
        )
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def has_checkpoint(folder: Path) -> bool:
    """Return True where a complete checkpoint is there to resume from."""
    try:
        last_checkpoint(folder)
    except ValueError:
        return False
    return True


def resume_arguments(folder: Path) -> list[str]:
    """Return the arguments that make a training command resume or replace an earlier run.

    A folder that no run of ours began is left to the command, which refuses it.
    """
    if has_checkpoint(folder):
        return ["--resume"]
    return ["--overwrite"] if (folder / RUN_FILE).is_file() else []


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote, once the new one is sure to start."""
    for name in (CHECKPOINTS, "evaluation", "tensorboard", "wandb"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("adapter_model.safetensors", "adapter_config.json", "trainer_state.json"):
        (folder / name).unlink(missing_ok=True)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write run.json: what was asked, of which model and data, with which versions."""
    write_json(folder / RUN_FILE, {**run, "versions": versions()})


def _is_complete(checkpoint: Path) -> bool:
    found = [list(checkpoint.glob(pattern)) for pattern in _CHECKPOINT_FILES]
    return all(paths and all(map(_is_whole, paths)) for paths in found)


def _is_whole(path: Path) -> bool:
    """Return True where a file was written to its end, as far as a short look tells."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.suffix == ".json":
            return read_json(path) is not None
        if path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as tensors:
                return bool(tensors.keys())
    except (ValueError, SafetensorError):
        return False
    return zipfile.is_zipfile(path)  # torch writes zip files, whose index stands last
