"""Any file or folder looked at: each kind is asked in turn, the surest first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from common.json_files import read_json
from common.near_paths import cannot_be_read, did_you_mean
from models.checkpoint import adapter_folder
from models.registry import families
from models.run_record import RUN_FILE, read_run, trained_on
from tasks.inspect_conversations import inspect_conversations
from tasks.inspect_folders import (
    inspect_classes,
    inspect_json,
    inspect_official,
    inspect_official_file,
    inspect_saved,
)
from tasks.inspect_tables import inspect_image_folder, inspect_shards, inspect_table
from tasks.inspection import Inspection, Kind, command, shown
from tasks.tables import SUFFIXES

_MOST_FILES = 8  # of a folder that are named
_ON_THE_HUB = (
    "if it is a name on the Hugging Face Hub, a model goes into --model_path, a data set into "
    "--hub_repo"
)


def inspect(path: Path) -> Inspection:
    """Describe a file or a folder by its names and beginnings; decodes no image, loads no model.

    Raises:
        ValueError: nothing is there, or it may not be read.
    """
    is_list = "{" in path.name and path.parent.is_dir()  # shards by a number in braces
    if not (path.exists() or is_list):
        hint = "" if path.suffix else _ON_THE_HUB
        raise ValueError(f"{path} does not exist here{did_you_mean(path, hint)}")
    try:
        for kind in KINDS:
            if found := kind(path):
                return found
        return _unknown(path)
    except OSError as error:
        raise ValueError(cannot_be_read(path, error)) from error


def _unknown(path: Path) -> Inspection:
    names = [] if path.is_file() else sorted(entry.name for entry in path.iterdir())
    return Inspection(
        what="nothing that PaliTune knows" if names or path.is_file() else "an empty folder",
        facts=[("holds", ", ".join(map(shown, names[:_MOST_FILES])))] if names else [],
        notes=[
            "Looked for tables (.csv, .tsv, .jsonl, .parquet), conversations, metadata of an image "
            "folder, .tar shards, a saved data set, official files, images, predictions, a run, an "
            "adapter and a model."
        ],
    )


def _run(path: Path) -> Inspection | None:
    """Describe a run: what it was trained on, and its scores."""
    folder = path.parent if path.name == RUN_FILE else path
    if not (folder / RUN_FILE).is_file():
        return None
    run = read_run(folder)
    tasks = trained_on(run)
    facts = [("task", ",".join(tasks)), ("base", shown(run.get("base_model")))]
    facts += [(f"score {place}", text) for place, text in _scores(folder)]
    found = Inspection(what="a run of PaliTune", facts=facts)
    if not (folder / "adapter_config.json").is_file():
        found.notes.append("It holds no adapter: the training did not come to its end.")
        return found
    settings = run["settings"]
    table = settings.get("test_csv") or settings.get("val_csv")
    places = {"--data_root": settings.get("data_root"), "--csv": table}
    words = [word for option, place in places.items() if place for word in (option, place)]
    for task in tasks:
        found.commands.append(command("eval", "--task", task, "--model_path", folder, *words))
    return found


def _scores(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((folder / "evaluation").rglob("metrics.json")):
        yield str(file.parent.relative_to(folder / "evaluation")), _score(read_json(file))


def _score(metrics: dict[str, Any]) -> str:
    value = metrics.get("value")
    score = f"{value:.4g}" if isinstance(value, int | float) else "none"
    return f"{shown(metrics.get('metric'))} {score}, {metrics.get('num_examples')} examples"


def _evaluation(path: Path) -> Inspection | None:
    """Describe the folder of an evaluation."""
    if not (path / "metrics.json").is_file() or not (path / "predictions.jsonl").is_file():
        return None
    metrics = read_json(path / "metrics.json")
    return Inspection(
        what="an evaluation of PaliTune",
        facts=[
            ("task", f"{shown(metrics.get('task'))}, split {shown(metrics.get('split'))}"),
            ("score", _score(metrics)),
        ],
        commands=[command("report", path, "--output", path / "report.html")],
    )


def _predictions(path: Path) -> Inspection | None:
    """Describe a predictions.jsonl that we wrote."""
    if not path.is_file() or path.suffix != ".jsonl":
        return None
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        first = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    if not {"id", "prediction", "raw_prediction"} <= first.keys():
        return None
    beside = path.with_name("metrics.json")
    task = read_json(beside).get("task", "TASK") if beside.is_file() else "TASK"
    return Inspection(
        what="predictions of PaliTune",
        facts=[("first", shown({key: first[key] for key in ("id", "prediction")}))],
        commands=[command("eval", "--task", task, "--predictions", path)],
        notes=["Add where the data lies, as --data_root or --csv; TASK is the task's name."],
    )


def _adapter(path: Path) -> Inspection | None:
    """Describe an adapter that another trainer wrote."""
    folder = adapter_folder(str(path)) if path.is_dir() else None
    if folder is None:
        return None
    config = read_json(folder / "adapter_config.json")
    facts = [
        ("base", shown(config.get("base_model_name_or_path"))),
        ("kind", f"{shown(config.get('peft_type'))}, rank {shown(config.get('r'))}"),
    ]
    words = ("doctor", "--model_path", folder)
    return Inspection(what="an adapter", facts=facts, commands=[command(*words)])


def _checkpoint(path: Path) -> Inspection | None:
    """Describe a full model by its config.json."""
    if not (path / "config.json").is_file():
        return None
    kind = read_json(path / "config.json").get("model_type")
    if kind is None:
        return None
    known = [family.name for family in families() if kind in family.model_types]
    return Inspection(
        what="a model",
        facts=[("type", shown(kind)), ("family", known[0] if known else "generic")],
        commands=[command("doctor", "--model_path", path)],
    )


def _tables_in(path: Path) -> Inspection | None:
    """Describe a folder by the tables in it, which are not called as splits are."""
    if not path.is_dir():
        return None
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
    if not files:
        return None
    if len(files) == 1:
        found = inspect(files[0])
        return msgspec.structs.replace(found, what=f"a folder with {files[0].name}, {found.what}")
    return Inspection(
        what=f"a folder with {len(files)} tables",
        facts=[("tables", ", ".join(shown(file.name) for file in files[:_MOST_FILES]))],
        commands=[command("inspect", file) for file in files[:_MOST_FILES]],
    )


KINDS: tuple[Kind, ...] = (
    _run,
    _evaluation,
    _adapter,
    _checkpoint,
    _predictions,
    inspect_saved,
    inspect_official,
    inspect_official_file,
    inspect_conversations,
    inspect_json,
    inspect_table,
    inspect_image_folder,
    inspect_shards,
    _tables_in,
    inspect_classes,
)
