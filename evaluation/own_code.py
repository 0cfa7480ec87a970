"""The user's code in records: what a run or a score used of it, and when it is loaded again."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from common.files import file_hash
from common.user_code import UserCode, code_of, find_module, load_code
from models.base import Family
from models.registry import find_family, load_families, loaded_families
from tasks.base import Task
from tasks.own_metric import find_metric, load_function, metric_of
from tasks.registry import get_task, load_tasks, loaded_tasks, task_names

logger = logging.getLogger(__name__)

KEY = "own_code"
_LOADERS: Mapping[str, Callable[[str, str], object]] = {
    "task": load_tasks,
    "family": load_families,
    "metric": load_code,
}


class Used(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of the user's that a run used.

    Attributes:
        kind: what it gave: `task`, `family` or `metric`.
        names: of these.
        module: what was typed for it: its path, or the dotted name of an installed module.
        path: where it lay.
        sha256: of its bytes.
        metrics: of tasks: name -> the headline and its best value.
    """

    kind: str
    names: tuple[str, ...]
    module: str
    path: str
    sha256: str
    metrics: dict[str, tuple[str, float]] = {}


@dataclass(frozen=True, slots=True)
class Measure:
    """The headline of a task, as far as charts and pages need it, by the names that Task has."""

    name: str
    metric: str
    metric_range: float

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain nothing, as `Task.working` does unless overridden."""
        return ()


def used_code(tasks: Sequence[Task], family: type[Family] | None = None) -> list[dict[str, Any]]:
    """Return what these use of the user's code, for a record; empty where it is none."""
    found = []
    for task in tasks:
        if code := code_of(type(task)):
            metrics = {task.name: (task.metric, task.metric_range)}
            found.append(_used("task", task.name, code, metrics))
        if (metric := metric_of(task)) and ":" in metric.text:
            found.append(_used("metric", metric.name, load_function(metric.text)[0]))
    if family is not None and (code := code_of(family)):
        found.append(_used("family", family.name, code))
    kept: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(found))  # as a file has it
    return [entry for place, entry in enumerate(kept) if entry not in kept[:place]]


def _used(
    kind: str, name: str, code: UserCode, metrics: dict[str, tuple[str, float]] | None = None
) -> Used:
    return Used(
        kind=kind,
        names=(name,),
        module=code.name,
        path=str(code.path),
        sha256=code.sha256,
        metrics=metrics or {},
    )


def read_used(record: Mapping[str, Any], where: str) -> list[Used]:
    """Return the entries in a record.

    Raises:
        ValueError: they are not as they were written.
    """
    try:
        used = msgspec.convert(record.get(KEY, []), list[Used])
    except msgspec.ValidationError as error:
        raise ValueError(f"{where} is not as it was written: {KEY}: {error}.") from error
    if wrong := [entry.kind for entry in used if entry.kind not in _LOADERS]:
        raise ValueError(f"{where} is not as it was written: {KEY} has the kind '{wrong[0]}'.")
    return used


def used_hashes(record: Mapping[str, Any], *kinds: str) -> dict[str, str]:
    """Return the SHA-256 of each entry of these kinds in a record, by kind and names.

    Args:
        record: a run.json, or the provenance in a metrics.json.
        kinds: of `task`, `family` and `metric`.
    """
    try:
        used = read_used(record, "")
    except ValueError:  # a record of another version
        return {}
    return {f"{e.kind} {', '.join(e.names)}": e.sha256 for e in used if e.kind in kinds}


def load_recorded(
    record: Mapping[str, Any], where: str, *, is_local: bool, leave_out: Collection[str] = ()
) -> None:
    """Load the user's code that a record names, where it is the same as it was then.

    Only a file of this machine whose bytes are those that were recorded is run, and that is said.

    Args:
        record: a run.json, or the provenance in a metrics.json.
        where: its file, for errors.
        is_local: whether it was written here, and did not come from the Hub.
        leave_out: kinds that the user named anew.

    Raises:
        ValueError: a file is not there, or has changed, or is of somebody else.
    """
    for entry in read_used(record, where):
        if entry.kind in leave_out:
            continue
        option = _option(entry.kind)
        what = f"the {entry.kind} module {entry.path}"
        if (code := _known(entry)) is not None:
            if code.sha256 != entry.sha256:
                logger.warning(
                    "Warning: %s was made with %s, and %s has other bytes.",
                    *(where, what, code.path if str(code.path) != entry.path else "the file now"),
                )
            continue
        if not is_local:
            raise ValueError(
                f"{where} was made with {what} of whoever published it, and code of others is not "
                f"run unasked: read it, then pass it by {option}."
            )
        path = Path(entry.path)
        if not path.is_absolute() or not path.is_file():
            raise ValueError(
                f"{where} was made with {what}, which is not there; pass its new place by {option}."
            )
        if file_hash(path) != entry.sha256:
            raise ValueError(
                f"{where} was made with {what}, which has changed since; pass {option} "
                f"{_typed(entry)} to take it as it is now."
            )
        if entry.module != entry.path and find_module(entry.module) != path:
            raise ValueError(
                f"{where} was made with {what}, which is not what {entry.module} stands for here; "
                f"pass {option}."
            )
        logger.info("%s, recorded by %s", what.removeprefix("the "), where)
        _LOADERS[entry.kind](entry.module, option)


def _option(kind: str) -> str:
    return "--metric" if kind == "metric" else f"--{kind}_module"


def _typed(entry: Used) -> str:
    return f"{entry.module}:{entry.names[0]}" if entry.kind == "metric" else entry.module


def _known(entry: Used) -> UserCode | None:
    """The loaded code that gives what an entry names."""
    if entry.kind == "task" and all(name in task_names() for name in entry.names):
        return code_of(type(get_task(entry.names[0])))
    if entry.kind == "family":
        families = [find_family(name) for name in entry.names]
        return code_of(families[0]) if families and families[0] is not None else None
    return None


def module_words() -> list[str]:
    """Return the options by which another process of ours loads what this one has loaded."""
    loaded = {
        "--task_module": [code_of(type(task)) for task in loaded_tasks()],
        "--family_module": [code_of(family) for family in loaded_families()],
    }
    return [
        word
        for option, codes in loaded.items()
        for name in dict.fromkeys(code.name for code in codes if code is not None)
        for word in (option, name)
    ]


def best_score(task: str, metric: str, record: Mapping[str, Any]) -> float | None:
    """Return the best value of a metric of a task; None where nothing says it.

    Args:
        task: its name.
        metric: its headline's name.
        record: the provenance in the metrics.json.
    """
    try:
        return measure_of(task, metric, read_used(record, "")).metric_range
    except ValueError:  # a task that is not loaded, or a record of another version
        return None


def measure_of(task: str, metric: str | None, used: Sequence[Used]) -> Task | Measure:
    """Return a task's headline and best value; a record says them where its code is not loaded.

    Args:
        task: its name.
        metric: a metric that it was given, as it was typed or by its name; None for its own.
        used: the record.

    Raises:
        ValueError: nothing says what the task is scored by.
    """
    recorded = {name: Measure(name, *m) for entry in used for name, m in entry.metrics.items()}
    of_record = recorded.get(task)
    if of_record is not None and (task not in task_names() or metric == of_record.metric):
        return of_record
    own = get_task(task)
    if metric is None or metric == own.metric:
        return own
    if metric in [name for entry in used if entry.kind == "metric" for name in entry.names]:
        return Measure(task, metric, 1.0)
    try:
        given = find_metric(metric)
    except ValueError:  # of another version
        return Measure(task, metric, own.metric_range)
    return Measure(task, given.name, given.best)
