"""One adapter for several tasks: which, where their data lie, and one figure for all of them.

In a run.json and on the command line they are one text, `vqav2,coco_captioning`; a task alone is
the case without a comma.
"""

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any
from zlib import crc32

from palitune import options
from tasks.base import Source, Task
from tasks.registry import get_task
from tasks.report import Report

METRIC = "joint"
_ROOT = re.compile(r"([\w-]+)=(.+)")  # a folder of such a name can be written ./a=b
_BETWEEN_ROOTS = re.compile(r",(?=[\w-]+=)")  # a folder's name may hold a comma


def get_tasks(names: str) -> list[Task]:
    """The tasks of `--task A,B`, in the order given.

    Raises:
        ValueError: one is unknown or there twice, or there are fewer than two.
    """
    tasks = [get_task(name.strip()) for name in names.split(",") if name.strip()]
    twice = [task.name for task in tasks if tasks.count(task) > 1]
    if twice:
        raise ValueError(f"--task {names} has {twice[0]} twice; name each task once.")
    if len(tasks) < 2:
        raise ValueError(
            f"--task takes two tasks or more with commas between, got '{names}'; for one alone "
            f"write `palitune train {tasks[0].name if tasks else 'TASK'}`."
        )
    return tasks


def make_sources(tasks: Sequence[Task], values: Mapping[str, Any]) -> list[Source]:
    """Each task's source, as the options describe it.

    Args:
        tasks: the tasks; of one alone the options mean what they always do.
        values: the options; `data_root` of several is one text for all, or `TASK=FOLDER,...`.

    Raises:
        ValueError: options of one Hub copy are given for several tasks, or a folder is wrong.
    """
    if len(tasks) == 1:
        return [options.make_source(tasks[0], values)]
    given = [f"--{name}" for name in values if name.startswith("hub_") and values[name]]
    if given:
        raise ValueError(
            f"{' and '.join(given)} cannot be given with several tasks, as each has a Hub copy of "
            "its own; save the one wanted to disk and name its folder in --data_root."
        )
    roots = data_roots(values["data_root"], tasks)
    return [options.make_source(task, {**values, "data_root": roots[task.name]}) for task in tasks]


def data_roots(text: str | None, tasks: Sequence[Task]) -> dict[str, str | None]:
    """Each task's folder, `sample`, or None for its Hub copy."""
    names = [task.name for task in tasks]
    if text is None or not _ROOT.fullmatch(text):
        return dict.fromkeys(names, text)
    by_alias = {alias: task.name for task in tasks for alias in (task.name, *task.aliases)}
    roots: dict[str, str | None] = {}
    for entry in _BETWEEN_ROOTS.split(text):
        alias, _, root = entry.partition("=")
        name = by_alias.get(alias.replace("-", "_"))
        if name is None or name in roots or not root:
            raise ValueError(
                f"--data_root takes a folder for all tasks, or TASK=FOLDER once for each of "
                f"{', '.join(names)}; got '{entry}' in {text}."
            )
        roots[name] = root
    return dict.fromkeys(names) | roots


def answer_seed(seed: int, task: Task, num_tasks: int) -> int:
    """The seed by which a task draws among accepted answers.

    Two tasks may have ids in common, and those must not draw alike. A task alone draws by the
    run's own seed.
    """
    return seed if num_tasks == 1 else crc32(f"{seed}/{task.name}".encode())


def figures(reports: Sequence[Report]) -> dict[str, float]:
    """Named figures of a scoring for the curves, the headline first.

    Of one task these are its metrics. Of several they are `joint`, the mean over the tasks of
    headline / best possible value (0 to 1), and each headline as `<task>_<metric>`; where a
    headline is not available, there is no `joint`.
    """
    if len(reports) == 1:
        found = reports[0].metrics
    else:
        shares = [r.value / r.task.metric_range for r in reports if r.value is not None]
        mean = fmean(shares) if len(shares) == len(reports) else None
        found = {METRIC: mean} | {f"{r.task.name}_{r.task.metric}": r.value for r in reports}
    return {name: value for name, value in found.items() if value is not None}
