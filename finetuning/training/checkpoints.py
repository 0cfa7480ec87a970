"""Checkpoints: written beside, synced and named at the end, and read only where they are whole."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.files import file_hash, share, sync
from common.json_files import read_json, write_json

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # folder of a run
_MANIFEST = "manifest.json"
_STAGING = ".writing"
_PREFIX = "checkpoint-"
_FORMER = "former-"  # before the name of one that makes way for another of its step


@contextmanager
def staged(root: Path, step: int, is_first: bool = True) -> Iterator[Path]:
    """Let a checkpoint be written beside the others; it gets its name once all of it is on disk.

    Args:
        root: the folder of a run's checkpoints.
        step: the optimiser steps it stands for.
        is_first: whether this process, of several, is the one that names it.

    Yields:
        The folder to write to. Where an exception leaves the block nothing of it stays.
    """
    beside = root / _STAGING / f"{_PREFIX}{step}"
    try:
        yield beside
        if is_first:
            _write_manifest(beside)
            _name(beside, root / beside.name)
    finally:
        if is_first:
            _tidy(root)


def _write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": file_hash(path)}
        for path in files
    }
    for path in files:
        share(path)
        sync(path)
    write_json(folder / _MANIFEST, {"files": entries})
    sync(folder)


def _name(beside: Path, final: Path) -> None:
    """Rename; one of the same step makes way, and comes back where the run ends in between."""
    former = final.with_name(f"{_FORMER}{final.name}")
    if final.exists():
        os.rename(final, former)
    os.rename(beside, final)
    sync(final.parent)
    shutil.rmtree(former, ignore_errors=True)


def _tidy(root: Path) -> None:
    """Remove what a run that was killed in a save left, and put back what had made way."""
    shutil.rmtree(root / _STAGING, ignore_errors=True)
    for former in sorted(root.glob(f"{_FORMER}*")):
        final = root / former.name.removeprefix(_FORMER)
        if final.exists():
            shutil.rmtree(former, ignore_errors=True)
        else:
            os.rename(former, final)


def fault_of(checkpoint: Path) -> str | None:
    """Say what a checkpoint lacks of what was written; None where it is whole."""
    try:
        files = read_json(checkpoint / _MANIFEST)["files"]
        for name, entry in files.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != entry["size"]:
                return f"{name} has {path.stat().st_size} bytes of {entry['size']}"
            if file_hash(path) != entry["sha256"]:
                return f"{name} was altered"
    except FileNotFoundError:
        return f"{_MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} cannot be read"
    return None


def newest(folder: Path) -> Path | None:
    """Find a run's newest checkpoint that is whole, as is the best one that it counts on.

    Args:
        folder: of the run.
    """
    whole = (path for path in reversed(_by_step(folder / CHECKPOINTS)) if not _fault(path))
    return next(whole, None)


def _fault(checkpoint: Path) -> str | None:
    """The fault of a checkpoint, or of the best one before it, which is loaded at the end."""
    fault = fault_of(checkpoint)
    if fault is None:
        best = checkpoint.with_name(f"{_PREFIX}{read_state(checkpoint).get('best_global_step')}")
        if best.name[len(_PREFIX) :].isdigit() and best != checkpoint:
            fault = fault_of(best)
            return fault and f"{fault}, of {best.name}, the best one before it"
    return fault


def set_aside_damaged(folder: Path) -> Path | None:
    """Rename the damaged checkpoints of a run beyond its newest whole one, and return that.

    Under their own names they would count as the newest, and whole ones be removed for them.
    """
    for path in reversed(_by_step(folder / CHECKPOINTS)):
        fault = _fault(path)
        if fault is None:
            return path
        target = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(target, ignore_errors=True)
        os.rename(path, target)
        logger.warning(
            "Checkpoint %s is passed over: %s. It is %s now and can be deleted.",
            path,
            fault,
            target.name,
        )
    return None


def to_resume(folder: Path, is_first: bool) -> Path | None:
    """Find what a run goes on from, and name each damaged checkpoint, or a start at step 0.

    Args:
        folder: of the run.
        is_first: whether this process, of several, is the one that tidies up.
    """
    if not is_first:
        return newest(folder)
    _tidy(folder / CHECKPOINTS)
    last = set_aside_damaged(folder)
    if last is None:
        logger.warning("%s holds no whole checkpoint: training begins at step 0.", folder)
    return last


def remove_old(root: Path, limit: int, best: str | None) -> None:
    """Remove all but the newest checkpoints and the best, once the newest is known to be whole.

    Args:
        root: the folder of a run's checkpoints.
        limit: how many to keep beside the best.
        best: the path of the best one; None where nothing is scored on the way.
    """
    paths = _by_step(root)
    if paths and fault_of(paths[-1]) is None:
        for path in paths[:-limit]:
            if best is None or path.name != Path(best).name:
                shutil.rmtree(path, ignore_errors=True)


def bytes_needed(num_trained: int, num_kept: int) -> int:
    """Estimate the bytes that a run's checkpoints and adapter take at most.

    Args:
        num_trained: parameters that are trained, in float32; Adam keeps two numbers for each.
        num_kept: how many checkpoints stay; one more is there while it is written.
    """
    return 4 * num_trained * (3 * (num_kept + 1) + 1)


def check_space(folder: Path, needed: int) -> None:
    """Refuse a run whose checkpoints its disk has no room for.

    Args:
        folder: of the run; what its checkpoints take already counts as theirs.
        needed: what `bytes_needed` estimates.

    Raises:
        ValueError: less is left.
    """
    taken = sum(path.stat().st_size for path in (folder / CHECKPOINTS).rglob("*"))
    free = shutil.disk_usage(folder).free
    if free + taken < needed:
        raise ValueError(
            f"The checkpoints and the adapter need about {_size(needed)}, and the disk of {folder} "
            f"has {_size(free)} left; free some, keep fewer checkpoints by --save_total_limit, or "
            "give another --output_dir."
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _by_step(root: Path) -> list[Path]:
    found: Mapping[int, Path] = {
        int(path.name.removeprefix(_PREFIX)): path
        for path in root.glob(f"{_PREFIX}*")
        if path.name.removeprefix(_PREFIX).isdigit()
    }
    return [found[step] for step in sorted(found)]


def describe_last(folder: Path) -> str:
    """Say which checkpoint of a run is the newest whole one, as a part of a sentence."""
    last = newest(folder)
    return "no checkpoint was saved yet" if last is None else f"the newest checkpoint is {last}"


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read the trainer's state in a checkpoint."""
    return read_json(checkpoint / "trainer_state.json")


def scorings_in_vain(checkpoint: Path) -> int:
    """Return how many scorings since the best one early stopping has counted; 0 without it."""
    kept = read_state(checkpoint).get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    count: int = kept.get("attributes", {}).get("early_stopping_patience_counter", 0)
    return count
