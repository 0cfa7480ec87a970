"""The embedded data, `--data_root sample`: drawn pictures in each task's official file formats."""

from collections.abc import Callable
from pathlib import Path

from tasks.base import Source, Task
from tasks.sample import coco_captioning, docvqa, gqa, vqav2
from tasks.sample.cache import build_once, cache_dir

# A part of the cache folder's name: raise it when a single byte of the data changes.
FORMAT_VERSION = 1
WRITERS: dict[str, Callable[[Path], None]] = {
    "coco_captioning": coco_captioning.write,
    "docvqa": docvqa.write,
    "gqa": gqa.write,
    "vqav2": vqav2.write,
}


def sample_root(task_name: str) -> Path:
    """Return the folder of a task's embedded data, in the official layout; written on first use.

    Raises:
        ValueError: there is no embedded data for the task, or the cache cannot be written.
    """
    if task_name not in WRITERS:
        raise ValueError(f"No sample data for '{task_name}'; there is for {', '.join(WRITERS)}.")
    folder = cache_dir() / f"sample-v{FORMAT_VERSION}" / task_name
    return build_once(folder, WRITERS[task_name])


def sample_source(task: Task) -> Source:
    """Return the source of a task's embedded data; a task that draws its data needs no folder."""
    return Source(data_root=sample_root(task.name) if task.needs_data else None)
