"""Every task by name: `get_task("vqav2")`; the user's beside ours."""

import logging
from difflib import get_close_matches
from typing import TYPE_CHECKING

from common.installed_code import entry_points, load_entry_point, shown
from common.user_code import (
    check_name,
    code_of,
    find_classes,
    load_unchanged,
    place_in_user_code,
    place_of,
    remedy,
    said,
)
from tasks.base import Task
from tasks.coco_captioning import CocoCaptioning
from tasks.contract import check_methods
from tasks.conversations import Conversations
from tasks.csv_qa import CsvQa
from tasks.digits import Digits
from tasks.docvqa import DocVqa
from tasks.frames_chat import FramesChat
from tasks.gqa import Gqa
from tasks.image_qa import ImageQa
from tasks.quic360 import Quic360
from tasks.vqav2 import VqaV2

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_BUILT_IN: tuple[Task, ...] = (
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


logger = logging.getLogger(__name__)
_added: list[Task] = []  # of the user's code, in the order in which it was loaded


def built_in_names() -> tuple[str, ...]:
    """Return the names of our own tasks, without aliases."""
    return tuple(task.name for task in _BUILT_IN)


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, without aliases: ours, loaded ones, those of packages."""
    loaded = (task.name for task in _added)
    return tuple(dict.fromkeys((*built_in_names(), *loaded, *_installed())))


def known_tasks() -> list[Task]:
    """Return all tasks; one of a package that is broken is left out, and that is logged."""
    found = []
    for name in task_names():
        try:
            found.append(get_task(name))
        except ValueError as error:
            logger.warning("Left out: %s", error)
    return found


def get_task(name: str) -> Task:
    """Return the task of this name or alias.

    Raises:
        ValueError: no such task, names the nearest and all; or the package that has it is broken.
    """
    key = name.lower().replace("-", "_")
    if key not in _by_name() and key in _installed():
        _load_installed(key)
    by_name = _by_name()
    if key not in by_name:
        near = get_close_matches(key, by_name, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"Unknown task '{name}'.{hint} Tasks are {', '.join(task_names())}; one of your own is "
            "named by --task_module."
        )
    return by_name[key]


def load_tasks(text: str, option: str = "--task_module") -> list[Task]:
    """Load a file or a module of the user's, and add its tasks to those known by name.

    Args:
        text: path of a `.py` file, or the dotted name of an installed module.
        option: what names it, for errors.

    Raises:
        ValueError: it cannot be loaded, has no complete task, or a name is taken; says where.
    """
    code = load_unchanged(text, option)
    before = [task for task in _added if code_of(type(task)) == code]
    return before or [_add(kind) for kind in find_classes(code, Task, option)]


def loaded_tasks() -> tuple[Task, ...]:
    """Return the tasks of the user's code that was loaded."""
    return tuple(_added)


def register(task: Task) -> Task:
    """Add a task that a program of the user's has made.

    Raises:
        ValueError: it is not complete, or its name is taken.
    """
    where, what = place_of(type(task)), type(task).__name__
    for name in (task.name, *task.aliases):
        check_name(name, type(task))
        if name in _by_name():
            owner = type(_by_name()[name])
            raise ValueError(
                f"{where}: {what} has the name {name}, which the task {owner.__module__}."
                f"{owner.__name__} has; {remedy(name, task)}."
            )
    if "default" not in task.prompts:
        raise ValueError(
            f"{where}: {what}.prompts has no 'default'; add one, such as "
            '{"default": "{question}"}.'
        )
    is_scored = task.metric.strip() and task.metric_range > 0 and task.eval_splits
    if not is_scored or task.max_new_tokens < 1:
        raise ValueError(
            f"{where}: {what} needs a metric with a name, a metric_range over 0, max_new_tokens of "
            "1 or more, and one eval split or more."
        )
    check_methods(task)
    if task.id_type not in (int, str):
        raise ValueError(f"{where}: {what}.id_type must be int or str, got {task.id_type}.")
    _added.append(task)
    return task


def _add(kind: type[Task]) -> Task:
    try:
        task = kind()
    except TypeError as error:
        raise ValueError(
            f"{place_of(kind)}: {kind.__name__} is made without arguments, and takes some."
        ) from error
    except (Exception, SystemExit) as error:
        place = place_in_user_code(error, ()) or place_of(kind)
        raise ValueError(f"{place}: {said(error)}; {kind.__name__} could not be made.") from error
    return register(task)


def _by_name() -> dict[str, Task]:
    tasks = (*_BUILT_IN, *_added)
    return {key: task for task in tasks for key in (task.name, *task.aliases)}


def _installed() -> "dict[str, EntryPoint]":
    return entry_points("palitune.tasks", frozenset(built_in_names()))


def _load_installed(name: str) -> None:
    entry = _installed()[name]
    kinds = load_entry_point(entry, Task)
    names = [_add(kind).name for kind in kinds]
    if name not in names:
        raise ValueError(f"{shown(entry)} holds {', '.join(names)}, and no task of that name.")
