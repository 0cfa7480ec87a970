"""The run that `--config` repeats: its settings become the defaults of a training command."""

import json
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec

from common.near_paths import cannot_be_read
from finetuning.training.recipe import Recipe
from finetuning.training.settings import in_words
from models.run_record import read_run_file

# what a file may not decide: to run a checkpoint's code, to write over a run, to publish it
_ONLY_TYPED = {"trust_remote_code", "overwrite", "resume", "dry_run", "push_to_hub", "private"}
_OF_RECIPE = {entry.name: entry.type for entry in fields(Recipe)}


def load_config(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    """Take the settings of a run.json as defaults; options given beside it win.

    Raises:
        click.UsageError: the file is no record of this command's task, or one of its settings is
            unknown or of another type than its option.
    """
    if path is None:
        return
    try:
        run = read_run_file(Path(path))
        if run.get("task") != ctx.command.name:
            raise ValueError(f"{path} is of task {run.get('task')}, not {ctx.command.name}.")
        _check_settings(run["settings"], ctx.command, path)
    except OSError as error:
        raise click.UsageError(f"--config {cannot_be_read(path, error)}") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    several = {option.name for option in ctx.command.params if option.multiple}
    ctx.default_map = {
        name: [value] if name in several and isinstance(value, str) else value
        for name, value in run["settings"].items()
        if name not in _ONLY_TYPED
    }


def _check_settings(settings: Mapping[str, Any], command: click.Command, path: str) -> None:
    """Refuse a setting that is no option of the command, and a value of another type."""
    known = {option.name: _kind(option) for option in command.params if option.expose_value}
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "remove it."
            raise ValueError(f"{path}: {name} is no setting of {command.name}; {hint}")
        try:
            msgspec.convert(value, known[name])
        except msgspec.ValidationError as error:
            raise ValueError(
                f"{path}: {name} must be {in_words(known[name])}, got "
                f"{json.dumps(value, ensure_ascii=False)}; mend it, or remove it."
            ) from error


def _kind(option: click.Parameter) -> Any:
    """Return the type that an option's value has in a run.json."""
    if option.name in _OF_RECIPE:
        return _OF_RECIPE[option.name]
    if option.multiple and option.callback is None:
        return list[str]  # a callback makes one text of them
    kind: Any = {"boolean": bool, "integer range": int}.get(option.type.name, str)
    return kind if kind is bool or isinstance(option.default, str | Path) else kind | None
