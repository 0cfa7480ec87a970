"""The run, adapter or model that the options of an evaluation name."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from finetuning.training.recipe import Recipe
from models.checkpoint import adapter_folder, read_config, run_folder_of
from models.run_record import RUN_FILE, prompt_settings, read_run, trained_on
from palitune.idle import refuse_idle
from palitune.user_modules import load_modules_of
from tasks.base import Task
from tasks.registry import get_task, task_names
from tasks.table_images import SEPARATOR
from tasks.tables import header_of

_RUNS_DIRS = (Path("runs"), Path("results"))  # where train, and where ablate writes
_DEPTHS = ("*/run.json", "*/*/run.json")
READER = "csv_qa"  # reads a table where nothing else says who does


def resolve_model_options(
    values: Mapping[str, Any], otherwise: str | None = None
) -> tuple[Task, dict[str, Any]]:
    """Return the task, and the options with a model path in place of `--run` and `--lora_path`.

    Args:
        values: the options.
        otherwise: the task where neither they nor a run name one.

    Raises:
        ValueError: there is no such run, or options contradict each other.
    """
    values = dict(values)
    model, lora = values["model_path"], values.pop("lora_path")
    if not values["run"]:
        given = {name for name, value in values.items() if value}
        refuse_idle(["runs_dir"], given, "it is where a run of --run is looked for")
    if name := values.pop("run"):
        if model or lora:
            raise ValueError(f"--run {name} names the model; leave out --model_path, --lora_path.")
        values["model_path"] = str(_find_run(name, values["runs_dir"]))
    elif lora:
        if model is None or values["base_model"]:
            raise ValueError("--lora_path goes with --model_path, its base, and no --base_model.")
        if adapter_folder(lora) is None:
            _check_is_there(lora)
            raise ValueError(f"--lora_path {lora} is no adapter: it has no adapter_config.json.")
        values |= {"model_path": lora, "base_model": model}
    if values["model_path"]:
        revision = None if values["base_model"] else values["revision"]
        load_modules_of([values["model_path"]], values, revision)
    task = values["task"]
    if task is None and (name := values["model_path"]):
        revision = None if values["base_model"] else values["revision"]
        task = _run_of(name, revision).get("task")
    if task is None:
        task = READER if values["csv"] else otherwise
    if task is None or "," in task:
        place = values["model_path"]
        is_no_run = task is None and place and Path(place).expanduser().is_dir()
        why = f", and {place} is no run that names it (no {RUN_FILE})" if is_no_run else ""
        if place and not is_no_run:
            _check_is_there(place, revision)
        raise ValueError(f"--task is missing{why}; it is one of {', '.join(task_names())}.")
    if name := values["model_path"]:
        values = with_run_reading(get_task(task), values, Path(name).expanduser())
        revision = None if values["base_model"] else values["revision"]
        values["metric"] = values.get("metric") or recorded_metric([name], get_task(task), revision)
    return get_task(task), values | {"task": task}


def _check_is_there(name: str, revision: str | None = None) -> None:
    """Refuse the name of a model that is neither here nor on the Hub."""
    if not Path(name).expanduser().is_dir() and adapter_folder(name, revision) is None:
        read_config(name, revision)


def recorded_metric(
    models: Sequence[str | Path], task: Task, revision: str | None = None
) -> str | None:
    """Return the metric that the runs of models give a task; None where that is its own.

    Raises:
        ValueError: they name different ones.
    """
    runs = [_run_of(str(name), revision) for name in models if task.reads_tables]
    named = [
        prompt_settings(run, task.name).get("metric")
        for run in runs
        if task.name in trained_on(run)
    ]
    if len({*named}) > 1:
        raise ValueError(
            f"The runs score {task.name} by different metrics, "
            f"{' and '.join(name or task.metric for name in dict.fromkeys(named))}; choose one by "
            "--metric."
        )
    return named[0] if named else None


def check_decoding(
    task: Task, model: str | None, revision: str | None, decoding: Mapping[str, Any]
) -> None:
    """Verify settings of generation that are given beside those of a run and of a task.

    Raises:
        ValueError: one is out of its range or has no effect, or they contradict each other.
    """
    run = {} if model is None else prompt_settings(_run_of(model, revision), task.name)
    others = ("max_new_tokens", "min_new_tokens", "do_sample")
    known = {name: run[name] for name in others if run.get(name) is not None}
    Recipe(**({"max_new_tokens": task.max_new_tokens} | known | dict(decoding)))


def _run_of(name: str, revision: str | None) -> dict[str, Any]:
    return read_run(run_folder_of(adapter_folder(name, revision) or Path(name).expanduser()))


def table_reader(task: Task) -> Task:
    """Return the task that reads a table for another: itself where it reads tables."""
    return task if task.table_columns else get_task(READER)


def with_run_reading(task: Task, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with a run's way of reading tables, where they give none.

    These are its encoding and its question, and the names of those columns that the table has.

    Args:
        task: whose data is read; of one that reads no texts of the user's nothing is taken.
        values: the options.
        folder: of an adapter; of none nothing is taken.
    """
    reading = ("encoding", "question") if task.reads_tables else ("encoding",)
    if not (task.reads_tables or task.own_files):
        return dict(values)
    place = adapter_folder(str(folder)) if folder.is_dir() else None
    settings = {} if place is None else read_run(run_folder_of(place)).get("settings", {})
    values = {**values, **_not_typed(values, settings, reading)}
    options = [f"{name}_column" for name in task.table_columns]
    named = {option: settings[option] for option in options if settings.get(option)}
    if not (named and values.get("csv")):
        return values
    present = {*_header(Path(values["csv"]), values.get("encoding"))}
    columns = [option for option in named if {*named[option].split(SEPARATOR)} <= present]
    return {**values, **_not_typed(values, settings, columns)}


def _not_typed(
    values: Mapping[str, Any], settings: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """A run's settings of those options that a command has and that were not given."""
    return {n: settings.get(n) for n in names if n in values and values[n] is None}


def _header(table: Path, encoding: str | None) -> list[str]:
    """The columns of a table; none of what is no file, or whose rows will say what is wrong."""
    try:
        return header_of(table, encoding) if table.is_file() else []
    except ValueError:
        return []


def _find_run(name: str, runs_dir: Path | None) -> Path:
    places = _RUNS_DIRS if runs_dir is None else (runs_dir,)
    files = [file for place in places for depth in _DEPTHS for file in sorted(place.glob(depth))]
    found = {file.parent: file.parent.name for file in files}
    matches = [folder for folder, known in found.items() if known == name]
    if not matches:
        near = get_close_matches(name, found.values(), n=1)
        known = ", ".join(dict.fromkeys(found.values())) or "none"
        hint = f"did you mean {near[0]}?" if near else f"there are {known}."
        raise ValueError(
            f"No run '{name}' in {' or '.join(map(str, places))}, or a folder of it; {hint}"
        )
    if len(matches) > 1:
        raise ValueError(
            f"{len(matches)} runs are called {name}: {', '.join(map(str, matches))}; name one by "
            "--model_path."
        )
    return matches[0]
