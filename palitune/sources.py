"""Where the options say that data lies: the sources of one task or of several."""

import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.near_paths import did_you_mean
from palitune.idle import refuse_idle
from tasks.base import Source, Task
from tasks.files import local_root
from tasks.hub import is_hub_copy
from tasks.registry import get_task, known_tasks
from tasks.table_files import open_table
from tasks.table_reading import TableReading
from tasks.table_text import check_encoding

_ROOT = re.compile(r"([\w-]+)=(.+)")  # a folder of such a name can be written ./a=b
_HUB = ("hub_repo", "hub_config", "hub_split", "hub_revision")
_BETWEEN_ROOTS = re.compile(r",(?=[\w-]+=)")  # a folder's name may hold a comma


def get_tasks(names: str) -> list[Task]:
    """Return the tasks of `--task A,B`, in the order given.

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
    """Make each task's source, as the options describe it.

    Args:
        tasks: the tasks; of one alone the options mean what they always do.
        values: the options; `data_root` of several is one text for all, or `TASK=FOLDER,...`.

    Raises:
        ValueError: options of one Hub copy are given for several tasks, or a folder is wrong.
    """
    if len(tasks) == 1:
        return [make_source(tasks[0], values)]
    given = [f"--{name}" for name in values if name.startswith("hub_") and values[name]]
    if given:
        raise ValueError(
            f"{' and '.join(given)} cannot be given with several tasks, as each has a Hub copy of "
            "its own; save the one wanted to disk and name its folder in --data_root."
        )
    roots = data_roots(values["data_root"], tasks)
    return [make_source(task, {**values, "data_root": roots[task.name]}) for task in tasks]


def data_roots(text: str | None, tasks: Sequence[Task]) -> dict[str, str | None]:
    """Return each task's folder, `sample`, or None for its Hub copy."""
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


def _tables(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a Source that options of tables and of own files set."""
    named = {split: values.get(f"{split}_csv") for split in task.splits}
    named |= dict.fromkeys(task.splits, values["csv"]) if values.get("csv") else {}
    columns = {
        name: values[f"{name}_column"]
        for name in ("image", "instruction", "response")
        if values.get(f"{name}_column")
    }
    reading = TableReading(
        encoding=values.get("encoding"),
        lenient=bool(values.get("csv_lenient")),
        question=values.get("question"),
    )
    _check_encoding(task, reading.encoding)
    of_tables = columns or values.get("csv") or reading.lenient or reading.question
    if of_tables and not task.reads_tables:
        readers = [other.name for other in known_tasks() if other.reads_tables]
        raise ValueError(
            f"{task.name} has official files and reads no table; --csv and its columns are for "
            f"{' and '.join(readers)}."
        )
    tables = {split: Path(name).expanduser() for split, name in named.items() if name}
    for path in tables.values():
        open_table(path)
    own = {name: Path(values[name]).expanduser() for name in task.own_files if values.get(name)}
    for name, path in own.items():
        if not path.exists():
            raise ValueError(f"--{name} {path} does not exist{did_you_mean(path)}")
    return {"tables": tables, "own_files": own, "columns": columns, "reading": reading}


def _check_encoding(task: Task, encoding: str | None) -> None:
    if encoding is None:
        return
    check_encoding(encoding)
    if not (task.reads_tables or task.own_files):
        raise ValueError(
            f"--encoding {encoding} would change nothing: {task.name} reads no table; its official "
            "files are UTF-8."
        )


def make_source(task: Task, values: Mapping[str, Any]) -> Source:
    """Make the source that the options describe; the embedded sample is made on first use."""
    data_root = values["data_root"]
    tables = _tables(task, values)
    columns = tables.pop("columns")
    for pair in values["hub_columns"]:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise ValueError(f"--hub_columns takes NAME=COLUMN, got {pair}.")
        if name not in task.columns:
            known = ", ".join(task.columns) or "none, as it reads no Hub copy"
            raise ValueError(
                f"--hub_columns {pair}: {task.name} has no column {name}; its columns are {known}."
            )
        columns[name] = column
    if data_root == "sample" and task.needs_data:
        from tasks.sample import sample_root

        data_root = sample_root(task.name)
    source = Source(
        data_root=None if data_root in (None, "sample") else Path(data_root).expanduser(),
        hub_repo=values["hub_repo"],
        hub_config=values["hub_config"],
        hub_split=values["hub_split"],
        hub_revision=values["hub_revision"],
        columns=columns,
        **tables,
    )
    if source.data_root is not None:
        local_root(source)  # said at once, before the Hub is asked for a model
    _refuse_idle_options(task, source, {name for name, value in values.items() if value})
    return source


def _refuse_idle_options(task: Task, source: Source, given: Container[str]) -> None:
    """Refuse files of other tasks, and options of a Hub copy that is not read, or not by them."""
    theirs = {
        name: other.name
        for other in known_tasks()
        for name in other.own_files
        if name not in task.own_files
    }
    others = ", ".join(dict.fromkeys(theirs.values()))
    refuse_idle(theirs, given, f"{task.name} reads no such file, as {others} does; leave them out")
    if not task.columns and (task.own_files or not task.needs_data):
        refuse_idle(_HUB, given, f"{task.name} reads no data set of the Hub")
    elif source.tables.keys() >= {*task.splits}:  # whose columns --hub_columns can name
        names = " and ".join(dict.fromkeys(map(str, source.tables.values())))
        refuse_idle(_HUB, given, f"{task.name} is read from {names}; leave one of them out")
    elif source.data_root is not None:
        idle = ["hub_repo", "hub_revision"]
        if not is_hub_copy(source):
            idle = [*_HUB, *([] if task.reads_tables else ["hub_columns"])]
        where = f"--data_root {source.data_root}"
        refuse_idle(idle, given, f"{task.name} is read from {where}; leave one of them out")


def folder_source(task: Task, data_root: str | None) -> Source:
    """Return the source of a task's official files: a folder, `sample`, or None for the Hub."""
    return make_source(task, {"data_root": data_root, "hub_columns": (), **dict.fromkeys(_HUB)})
