"""Folders and JSON files looked at: official files, a saved data set, images by class."""

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from common.json_files import read_json
from tasks.base import Source, Task
from tasks.column_guess import IMAGE_SUFFIXES
from tasks.hub import is_hub_copy
from tasks.inspection import Inspection, command, map_columns, shown, use_commands
from tasks.registry import known_tasks

_MADE = ("image", "instruction", "response")  # columns of the table that is proposed
_MOST_JSON = 200 << 20  # bytes that are read at once


def inspect_official(path: Path) -> Inspection | None:
    """Describe a folder with the official files of a task."""
    if not path.is_dir():
        return None
    places = [*_entries(path), *(e for d in _entries(path) if d.is_dir() for e in _entries(d))]
    for task in known_tasks():
        found = [place for place in places if _is_official(place, task)]
        if found:
            names = ", ".join(str(place.relative_to(path)) for place in found[:8])
            where = ["--data_root", path]
            return Inspection(
                what=f"a folder with the official files of {task.name}",
                facts=[("files", names), ("metric", task.metric)],
                commands=use_commands(task.name, {"train": where, "other": where}),
            )
    return None


def _is_official(place: Path, task: Task) -> bool:
    return re.fullmatch(task.official_files or "$", place.name) is not None


def inspect_saved(path: Path) -> Inspection | None:
    """Describe a data set that `datasets` wrote by `save_to_disk`."""
    if not path.is_dir() or not is_hub_copy(Source(data_root=path)):
        return None
    what = "a data set that `datasets` saved"
    splits = [d for d in _entries(path) if (d / "state.json").is_file()] or [path]
    infos = {folder: read_json(folder / "dataset_info.json") for folder in splits}
    facts = [(_split(folder, info), f"{_num_rows(folder)} rows") for folder, info in infos.items()]
    columns = list(infos[splits[0]].get("features") or {})
    facts.append(("columns", ", ".join(map(shown, columns))))
    mapped = map_columns(columns)
    found = Inspection(what=what, facts=[*facts, *mapped.facts()])
    if mapped.task is None or mapped.asks:
        found.notes.append(
            "Not all of image, question and answer are known among the columns; name them by "
            "--hub_columns NAME=COLUMN."
        )
        return found
    words: list[object] = ["--data_root", path]
    for ours, column in mapped.renamed():
        words += ["--hub_columns", f"{ours}={column}"]
    names = [name for name, _ in facts]
    words += [] if "train" in names else ["--hub_split", names[0]]
    places = {"train": words, "other": [*words, "--split", "train"]}
    found.commands = use_commands(mapped.task, places)
    return found


def _split(folder: Path, info: dict[str, Any]) -> str:
    """Return the name of a saved split: its folder's, or what one Dataset remembers."""
    if (folder.parent / "dataset_dict.json").is_file():
        return folder.name
    state = read_json(folder / "state.json")
    return str(state.get("_split") or "train").partition("[")[0]


def _num_rows(folder: Path) -> str:
    """Count the rows by the heads of the Arrow files; no row is read."""
    import datasets

    try:
        return f"{len(datasets.load_from_disk(str(folder))):,}"
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} was written by save_to_disk, but is damaged: {error}.") from (
            error
        )


def inspect_classes(path: Path) -> Inspection | None:
    """Describe a folder of images, in a folder for each class or all in one."""
    if not path.is_dir():
        return None
    classes = {}
    for folder in _entries(path):
        if folder.is_dir() and (num := sum(map(_is_image, _entries(folder)))):
            classes[folder.name] = num
    here = Counter(place.suffix for place in _entries(path) if _is_image(place))
    if not classes:
        return _plain_images(path, here.total()) if here else None
    suffixes = Counter(
        p.suffix for f in _entries(path) if f.is_dir() for p in _entries(f) if _is_image(p)
    )
    patterns = " ".join(f"*/*{suffix}" for suffix in sorted(suffixes))
    names = ", ".join(f"{shown(name)} ({num:,})" for name, num in list(classes.items())[:12])
    reader = map_columns(_MADE).task
    return Inspection(
        what=f"an image folder with {len(classes)} classes and no table",
        facts=[("images", f"{sum(classes.values()):,}"), ("classes", names)],
        commands=[
            f"cd {shlex.quote(str(path))} && echo {','.join(_MADE)} > train.csv",
            f'for f in {patterns}; do echo "\\"$f\\",\\"which class is it?\\",\\"${{f%%/*}}\\""; '
            "done >> train.csv",
            command("train", reader, "--train_csv", "train.csv", "--model_path", "tiny"),
        ],
        notes=["No task reads folders of classes; the first two lines make a table of them."],
    )


def _plain_images(path: Path, number: int) -> Inspection:
    return Inspection(
        what="a folder of images without a table",
        facts=[("images", f"{number:,}")],
        commands=[
            command("predict", path, "--model_path", "tiny", "--question", "What is this?"),
        ],
        notes=["To train, add metadata.csv with the columns file_name, instruction, response."],
    )


def _is_image(place: Path) -> bool:
    return place.suffix.lower() in IMAGE_SUFFIXES


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def inspect_official_file(path: Path) -> Inspection | None:
    """Describe a file with questions of a task, by its official name alone."""
    for task in known_tasks() if path.is_file() else ():
        if _is_official(path, task):
            return Inspection(
                what=f"an official file of {task.name}",
                notes=[f"Tasks are read from their folder: {command('inspect', path.parent)}."],
            )
    return None


def inspect_json(path: Path) -> Inspection | None:
    """Describe a JSON file: results of a task, or a list of objects."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return None
    if path.stat().st_size > _MOST_JSON:
        return Inspection(what="a JSON file", notes=["It is too large to be looked into."])
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Inspection(what="a damaged JSON file", notes=[f"It cannot be read: {error}."])
    if not (isinstance(content, list) and content and isinstance(content[0], dict)):
        return Inspection(what=f"a JSON {'list' if isinstance(content, list) else 'object'}")
    facts = [("entries", f"{len(content):,}"), ("keys", ", ".join(map(shown, content[0])))]
    for task in known_tasks():
        if set(content[0]) == set(task.result_keys):
            words = ["eval", "--task", task.name, "--predictions", path, "--data_root", "sample"]
            return Inspection(
                what=f"a results file of {task.name}",
                facts=facts,
                commands=[command(*words)],
                notes=["Name in --data_root the folder with the task's official files."],
            )
    lines = f"{shlex.quote(str(path.with_suffix('.jsonl')))}"
    script = "import json,sys; [print(json.dumps(row)) for row in json.load(open(sys.argv[1]))]"
    return Inspection(
        what="a JSON list of objects",
        facts=facts,
        commands=[f"python -c {shlex.quote(script)} {shlex.quote(str(path))} > {lines}"],
        notes=["Tables have an object per line; the command writes them so."],
    )
