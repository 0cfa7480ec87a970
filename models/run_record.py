"""The record of a run, `run.json`: all that is read from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from common.json_files import read_json
from models.settings import GENERATION

RUN_FILE = "run.json"
_PROMPT_SETTINGS = (
    "prompt_template",
    "max_length",
    "truncate",
    "system_message",
    *GENERATION,
    "metric",
)


class _Settings(msgspec.Struct):
    """Settings that decide how a model is asked."""

    model_type: str | None = None
    prompt_template: str | None = None
    system_message: str | None = None
    metric: str | None = None
    dtype: Literal["auto", "bf16", "fp16", "fp32"] | None = None
    max_length: int | None = None
    truncate: bool | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None


class _Run(msgspec.Struct):
    """What is read of a record."""

    settings: _Settings
    task: str = ""
    base_fingerprint: str | None = None
    base_revision: str | None = None
    asked_as: dict[str, _Settings] = {}


def trained_on(run: Mapping[str, Any]) -> list[str]:
    """Return the tasks that the record says the adapter was trained on."""
    return run["task"].split(",") if "task" in run else []


def read_run(folder: Path) -> dict[str, Any]:
    """Return the record in a folder; empty where there is none."""
    path = folder / RUN_FILE
    return read_run_file(path) if path.is_file() else {}


def read_run_file(path: Path) -> dict[str, Any]:
    """Return what a run.json says.

    Raises:
        ValueError: it is not one.
    """
    run = read_json(path)
    try:
        msgspec.convert(run, _Run)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not a run.json ({error}); remove it.") from error
    return run


def prompt_settings(run: Mapping[str, Any], task_name: str) -> dict[str, Any]:
    """Return the prompt and decoding settings that a run used for a task, where it says so.

    A merge keeps those of each run that went into it. Empty of a task that was not trained on.
    """
    if task_name not in trained_on(run):
        return {}
    settings = run.get("asked_as", {}).get(task_name, run["settings"])
    return {key: settings[key] for key in _PROMPT_SETTINGS if key in settings}


def evaluation_folder(folder: Path, run: Mapping[str, Any], task_name: str, split: str) -> Path:
    """Return the folder of a task's scores in a run; each of several tasks has its own."""
    place = folder / "evaluation"
    return (place / task_name if len(trained_on(run)) > 1 else place) / split


def by_task(run: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the entries of a key by task; a run of one task holds the entry alone."""
    names = trained_on(run)
    return dict(run[key]) if len(names) > 1 else {names[0]: run[key]}
