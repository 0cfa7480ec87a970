"""How our commands take options and report mistakes; no command itself."""

import logging
import os
import re
import traceback
import warnings
from collections.abc import Container, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import click

from finetuning.training.output_folder import read_run_file
from finetuning.training.recipe import ALL, Recipe
from models.base import FamilyOptions
from tasks.base import Source, Task
from tasks.files import local_root
from tasks.registry import get_task, task_names

_PACKAGES = (
    *("evaluation", "experiments", "finetuning", "merging"),
    *("models", "palitune", "synthetic", "tasks"),
)
_OURS = tuple(str(Path(__file__).resolve().parents[1] / package) + os.sep for package in _PACKAGES)
_WORKER_ERROR = re.compile(
    r"^Caught (\w+) in DataLoader worker process .*\n(?:.*\n)*\1: (.*)", re.M
)


class UserError(click.ClickException):
    """Something that the user can mend."""

    exit_code = 2


class SystemFault(click.ClickException):
    """Something that the user cannot mend by other input."""

    exit_code = 1


class Option(click.Option):
    """An option that knows under which heading `--help` shows it."""

    def __init__(self, *args: Any, group: str = "General", **kwargs: Any) -> None:
        self.group = group
        super().__init__(*args, **kwargs)


class Command(click.Command):
    """Options by group in `--help`, hyphens as good as underscores, mistakes in one sentence."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.context_settings = {
            "token_normalize_func": lambda text: text.replace("-", "_"),
            "max_content_width": 100,
        }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options under their groups, in the order in which groups first appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "General"), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; a mistake of the user becomes one sentence and exit code 2, a fault exit code 1."""
        _show_log()
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, RuntimeError) as error:
            if os.environ.get("PALITUNE_TRACEBACK"):
                raise
            sentence = _sentence(error)
            if sentence is None:
                raise  # not foreseen: the traceback is what a bug report needs
            raise (SystemFault if isinstance(error, RuntimeError) else UserError)(
                sentence
            ) from error


def _sentence(error: Exception) -> str | None:
    """The message for the user, where the error is one that we raised or the system did."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}."
    if caught := _WORKER_ERROR.search(str(error)):
        return caught[2]
    frames = traceback.extract_tb(error.__traceback__)
    return str(error) if frames and frames[-1].filename.startswith(_OURS) else None


class _Echo(logging.Handler):
    """Writes to what is standard error at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _show_log() -> None:
    handler = _Echo()
    if not logging.root.handlers:  # libraries that find none give the root one, for our lines too
        logging.root.addHandler(logging.NullHandler())
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # what the libraries warn each other of is nothing that a user could change
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers warn otherwise
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def model_option(**kwargs: Any) -> Option:
    """Which model."""
    return Option(
        ["--model_path", "--model_id"],
        group="Model",
        help="Folder, Hub id, or `tiny` for the embedded model.",
        **kwargs,
    )


def revision_option() -> Option:
    """Which commit of it."""
    return Option(["--revision"], group="Model", help="Revision of the Hub repository.")


def family_options() -> list[click.Parameter]:
    """What may be said of a model beyond where it lies."""
    group = "Model"
    size = click.IntRange(min=1)
    return [
        Option(
            ["--model_type"],
            group=group,
            help="Feed it as this family: paligemma, llava, … [default: by its config.json].",
        ),
        Option(
            ["--model_class"],
            group=group,
            help="Class of transformers to load it by [default: the family's].",
        ),
        Option(
            ["--chat_template"],
            group=group,
            type=click.Path(),
            help="File with a Jinja chat template in place of the model's own.",
        ),
        Option(["--image_size"], group=group, type=size, help="Side that pictures are brought to."),
        Option(["--min_pixels"], group=group, type=size, help="Least pixels of a picture …"),
        Option(["--max_pixels"], group=group, type=size, help="… and most, where sizes are free."),
        Option(
            ["--trust_remote_code"],
            group=group,
            is_flag=True,
            help="Run code that comes with the model; needs --revision.",
        ),
    ]


def make_family_options(values: Mapping[str, Any]) -> FamilyOptions:
    """What the options say of a model."""
    path = values["chat_template"]
    try:
        template = None if path is None else Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"--chat_template {path} is not UTF-8; save it as that.") from error
    return FamilyOptions(
        chat_template=template,
        image_size=values["image_size"],
        min_pixels=values["min_pixels"],
        max_pixels=values["max_pixels"],
        trust_remote_code=values["trust_remote_code"],
        model_class=values["model_class"],
    )


def device_option() -> Option:
    """Where it runs."""
    return Option(
        ["--device"],
        group="Model",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or cuda:N.",
    )


def count_option(
    name: str, group: str, help: str, default: int | None = None, minimum: int = 1
) -> Option:
    """An option that counts something, or how many at most."""
    return Option(
        [name],
        group=group,
        type=click.IntRange(min=minimum),
        default=default,
        show_default=default is not None,
        help=help,
    )


def recipe_options(recipe: Recipe | None, names: Container[str] = ALL) -> list[click.Parameter]:
    """One option per field of the recipe, its value as default; of those named alone.

    Without a recipe the defaults are those of a run that was trained with others like them.
    """
    options: list[click.Parameter] = []
    for entry in (entry for entry in fields(Recipe) if entry.name in names):
        kind = _click_type(entry.type)
        default = None if recipe is None else getattr(recipe, entry.name)
        name = f"--{entry.name}"
        is_flag = kind is click.BOOL and default is not None
        also = [f"--{entry.metadata['also']}"] if "also" in entry.metadata else []
        options.append(
            Option(
                [name if kind is not click.BOOL or is_flag else f"{name}/--no_{entry.name}", *also],
                type=None if kind is click.BOOL else kind,
                is_flag=True if is_flag else None,
                default=default,
                show_default=default is not None and not is_flag,
                help=entry.metadata["help"] if recipe else _run_help(entry),
                group=entry.metadata["group"],
            )
        )
    return options


def _run_help(entry: Any) -> str:
    text = entry.metadata["help"].partition(" [default")[0].rstrip(".")
    own = "the task's" if entry.default is None else entry.default
    return f"{text} [default: the run's, else {own}]."


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if isinstance(annotation, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    return {int: click.INT, float: click.FLOAT, bool: click.BOOL, str: click.STRING}[annotation]


def source_options() -> list[click.Parameter]:
    """Where the data lies."""
    group = "Data"
    return [
        Option(
            ["--data_root"],
            group=group,
            help="Folder with the official files, or one that `datasets` saved to disk, or "
            "`sample` for the embedded data [default: the task's Hub copy; of quic360 "
            "data/quic360].",
        ),
        Option(["--hub_repo"], group=group, help="Read this Hub repository instead."),
        Option(["--hub_config"], group=group, help="Its configuration (in training: to train on)."),
        Option(["--hub_split"], group=group, help="Its split (in training: the one to train on)."),
        Option(["--hub_revision"], group=group, help="Its revision."),
        Option(
            ["--hub_columns"],
            group=group,
            multiple=True,
            metavar="NAME=COLUMN",
            help="Where it has a column under another name; may be repeated.",
        ),
    ]


def table_options(*names: str) -> list[click.Parameter]:
    """Tables of the user's own, of tasks that read such: the options that name one each."""
    group = "Tables"
    columns = {
        "image": ("path or URL of the picture", "image, url or image_path"),
        "instruction": ("instruction", "instruction or query"),
        "response": ("response", "response or annotation"),
    }
    return [
        *(
            Option(
                [f"--{name}"],
                group=group,
                help=f"Table of the split {'scored or shown' if name == 'csv' else name[:-4]}: "
                "CSV, JSON Lines or Parquet.",
            )
            for name in names
        ),
        *(
            Option(
                [f"--{name}_column"],
                group=group,
                help=f"Its column with the {what} [default: {default}].",
            )
            for name, (what, default) in columns.items()
        ),
        Option(
            ["--csv_lenient"],
            group=group,
            is_flag=True,
            help="Join what unquoted commas cut in the last column.",
        ),
    ]


def own_file_options(*names: str) -> list[click.Parameter]:
    """The options that name the files of these tasks, beyond what every task has."""
    return [
        Option([f"--{option}"], group="Tables", help=f"{name}: {text}")
        for name in names
        for option, text in get_task(name).own_files.items()
    ]


def _tables(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the options of tables give to a Source."""
    named = {split: values.get(f"{split}_csv") for split in task.splits}
    named |= dict.fromkeys(task.splits, values["csv"]) if values.get("csv") else {}
    columns = {
        name: values[f"{name}_column"]
        for name in ("image", "instruction", "response")
        if values.get(f"{name}_column")
    }
    if (values.get("csv") or columns or values.get("csv_lenient")) and not task.reads_tables:
        readers = [name for name in task_names() if get_task(name).reads_tables]
        raise ValueError(
            f"{task.name} has official files and reads no table; --csv and its columns are for "
            f"{' and '.join(readers)}."
        )
    files = {split: Path(name).expanduser() for split, name in named.items() if name}
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"The table {path} does not exist; give the path of a file.")
    own = {name: Path(values[name]).expanduser() for name in task.own_files if values.get(name)}
    for name, path in own.items():
        if not path.exists():
            raise ValueError(f"--{name} {path} does not exist.")
    return {"files": files | own, "columns": columns, "lenient": bool(values.get("csv_lenient"))}


def make_source(task: Task, values: Mapping[str, Any]) -> Source:
    """The source that the options describe; the embedded sample is made on first use."""
    data_root = values["data_root"]
    tables = _tables(task, values)
    columns = tables.pop("columns")
    for pair in values["hub_columns"]:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise ValueError(f"--hub_columns takes NAME=COLUMN, got {pair}.")
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
    return source


def sample_source(task: Task) -> Source:
    """The embedded data of a task."""
    values: dict[str, Any] = {str(option.name): None for option in source_options()}
    return make_source(task, values | {"data_root": "sample", "hub_columns": ()})


def load_config(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    """Take the settings of a run.json as defaults; options given beside it win."""
    if path is None:
        return
    try:
        run = read_run_file(Path(path))
    except OSError as error:
        raise click.UsageError(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if run.get("task") != ctx.command.name:
        raise click.UsageError(f"{path} is of task {run.get('task')}, not {ctx.command.name}.")
    known = {parameter.name for parameter in ctx.command.params}
    settings = run["settings"].items()
    ctx.default_map = {name: value for name, value in settings if name in known}
