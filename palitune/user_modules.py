"""Options that name code of the user's, and the code that a run recorded."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from evaluation.own_code import load_recorded
from models.checkpoint import adapter_folder, run_folder_of
from models.registry import load_families
from models.run_record import RUN_FILE, read_run, read_run_file
from palitune.command import Command, Option, UserError, show_log
from tasks.own_metric import load_metric, metric_names
from tasks.registry import load_tasks, loaded_tasks, task_names

_GROUP = "Own code"


def module_options(*, tasks: bool = True) -> list[click.Parameter]:
    """Make the options that name tasks and families outside this repository.

    They are read before the others, so that those know what was loaded.

    Args:
        tasks: whether the command takes tasks too.
    """
    options = [
        _module_option("--task_module", load_tasks, "tasks"),
        _module_option("--family_module", load_families, "model families"),
    ]
    return options if tasks else options[1:]


def _module_option(name: str, load: Callable[[str], object], what: str) -> click.Parameter:
    return Option(
        [name],
        group=_GROUP,
        metavar="FILE",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_loading(load),
        help=f"Load the {what} of this .py file, or of this installed module; may be repeated.",
    )


def _loading(load: Callable[[str], object]) -> Callable[..., None]:
    def callback(_: click.Context, __: click.Parameter, values: Sequence[str]) -> None:
        for value in values:
            _or_user_error(load, value)

    return callback


def _or_user_error(load: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    try:
        return load(*arguments, **more)
    except ValueError as error:
        raise UserError(str(error)) from error


def metric_option(default: str = "task's own") -> Option:
    """Make the option that scores a table by another metric.

    Args:
        default: whose metric counts without it.
    """

    def callback(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        return None if value is None else str(_or_user_error(load_metric, value).text)

    return Option(
        ["--metric"],
        group="Tables",
        metavar="NAME|FILE.py:FUNCTION",
        callback=callback,
        help=f"Score a table by this: one of {', '.join(metric_names())}, or a function of yours "
        f"from (prediction, references) to a number from 0 to 1 [default: the {default}].",
    )


class OwnCodeCommand(Command):
    """A command that loads the code which its words name before it reads them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load what the words name, then read them."""
        load_named(args)
        return super().parse_args(ctx, args)


class TaskCommand(OwnCodeCommand):
    """A command with the options for own files of every task that is loaded by then."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters, and those of loaded tasks."""
        found = super().get_params(ctx)
        known = {parameter.name for parameter in found}
        files = {k: text for task in loaded_tasks() for k, text in task.own_files.items()}
        own: list[click.Parameter] = [
            Option([f"--{name}"], group="Tables", help=text)
            for name, text in files.items()
            if name not in known
        ]
        return [*found, *own]


class TaskOption(Option):
    """An option whose help lists the tasks that are known when it is shown, at `{tasks}`."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's words and its help."""
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].replace("{tasks}", ", ".join(task_names())))


def load_named(words: Sequence[str]) -> None:
    """Load the modules that the words of a command name, whatever else they say.

    The run.json of `--config` counts too: it names the modules of the run that is repeated.
    """
    config = Option(["--config"], expose_value=True)
    reader = click.Command("modules", params=[*module_options(), config], add_help_option=False)
    reader.context_settings = {
        "token_normalize_func": lambda text: text.replace("-", "_"),
        "ignore_unknown_options": True,
        "allow_extra_args": True,
    }
    try:
        path = reader.make_context("modules", list(words)).params["config"]
    except click.UsageError:
        return  # the command itself says what is wrong
    if path is not None and Path(path).name.endswith(".json") and Path(path).is_file():
        show_log()  # loading says what it loads
        record = _or_user_error(read_run_file, Path(path))
        _or_user_error(load_recorded, record, path, is_local=True)


def load_modules_of(
    models: Iterable[str | Path],
    given: Mapping[str, Any] | None = None,
    revision: str | None = None,
) -> None:
    """Load the modules that the runs of models recorded; see `load_recorded`.

    Args:
        models: as `--model_path` names them.
        given: the options; a metric among them takes the place of the recorded one.
        revision: of a model on the Hub.

    Raises:
        ValueError: a module is not there, has changed, or is of somebody else.
    """
    leave_out: Collection[str] = ("metric",) if (given or {}).get("metric") else ()
    for name in models:
        place = Path(name).expanduser()
        is_local = place.is_dir()
        folder = adapter_folder(str(name), None if is_local else revision) or place
        run_folder = run_folder_of(folder)
        if run := read_run(run_folder):
            where = str(run_folder / RUN_FILE)
            load_recorded(run, where, is_local=is_local, leave_out=leave_out)
