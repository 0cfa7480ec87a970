"""Every task by name: `get_task("vqav2")`."""

from difflib import get_close_matches

from tasks.base import Task
from tasks.coco_captioning import CocoCaptioning
from tasks.conversations import Conversations
from tasks.csv_qa import CsvQa
from tasks.digits import Digits
from tasks.docvqa import DocVqa
from tasks.frames_chat import FramesChat
from tasks.gqa import Gqa
from tasks.image_qa import ImageQa
from tasks.quic360 import Quic360
from tasks.vqav2 import VqaV2

_TASKS: tuple[Task, ...] = (
    CocoCaptioning(),
    DocVqa(),
    Gqa(),
    VqaV2(),
    Digits(),
    CsvQa(),
    Quic360(),
    FramesChat(),
    ImageQa(),
    Conversations(),
)


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, without aliases."""
    return tuple(task.name for task in _TASKS)


def get_task(name: str) -> Task:
    """Return the task of this name or alias.

    Raises:
        ValueError: no such task; names the nearest and all.
    """
    by_name = {key: task for task in _TASKS for key in (task.name, *task.aliases)}
    key = name.lower().replace("-", "_")
    if key not in by_name:
        near = get_close_matches(key, by_name, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"Unknown task '{name}'.{hint} Tasks are {', '.join(task_names())}.")
    return by_name[key]
