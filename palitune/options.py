"""Options that several commands share, and what a group of them means."""

from collections.abc import Container, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import click

from finetuning.training.recipe import ALL, Recipe
from models.loading import Dtype
from models.quantization import Quantization
from models.settings import Auto, FamilyOptions
from palitune.command import CountOrAuto, Option


def model_option(**kwargs: Any) -> Option:
    """Make the option that names the model."""
    return Option(
        ["--model_path", "--model_id"],
        group="Model",
        help="Name the model: a folder, a Hub id, or `tiny` for the embedded model.",
        **kwargs,
    )


def revision_option() -> Option:
    """Make the option that names the commit of the model."""
    return Option(
        ["--revision"], group="Model", help="Take this revision of the model's Hub repository."
    )


def family_options() -> list[click.Parameter]:
    """Return the options on a model beside its path."""
    group = "Model"
    size = click.IntRange(min=1)
    return [
        Option(
            ["--model_type"],
            group=group,
            help="Feed the model as this family, such as paligemma or llava [default: by its "
            "config.json].",
        ),
        Option(
            ["--model_class"],
            group=group,
            help="Load the model by this class of transformers [default: the family's].",
        ),
        Option(
            ["--chat_template"],
            group=group,
            type=click.Path(),
            help="Use the Jinja chat template in this file in place of the model's own.",
        ),
        Option(
            ["--image_size"], group=group, type=size, help="Resize images to this side in pixels."
        ),
        Option(
            ["--min_pixels"],
            group=group,
            type=size,
            help="Resize smaller images to at least this many pixels, where the model allows any "
            "size.",
        ),
        Option(
            ["--max_pixels"],
            group=group,
            type=size,
            help="Resize larger images to at most this many pixels, where a model allows any size.",
        ),
        Option(
            ["--trust_remote_code"],
            group=group,
            is_flag=True,
            help="Run code of the model; on the Hub this needs --revision, and it counts "
            "on the command line alone, never from --config.",
        ),
    ]


def make_family_options(values: Mapping[str, Any]) -> FamilyOptions:
    """Return the family's settings that the options give."""
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


def quantization_option(own: str) -> Option:
    """Make the option that names the precision of a model that answers.

    Args:
        own: whose precision is the default.
    """
    return Option(
        ["--quantization"],
        group="Model",
        type=click.Choice(get_args(Quantization)),
        help=f"Hold the language model in this precision [default: {own} own, else none].",
    )


def dtype_option(own: str) -> Option:
    """Make the option that names the precision of what is not quantised.

    Args:
        own: whose precision is the default.
    """
    return Option(
        ["--dtype"],
        group="Model",
        type=click.Choice(get_args(Dtype)),
        help="Compute in this precision; layers that are not quantised are held in it "
        f"[default: {own}, else auto].",
    )


def device_option() -> Option:
    """Make the option that names the device."""
    return Option(
        ["--device"],
        group="Model",
        default="auto",
        show_default=True,
        help="Run on this device: auto, cpu, cuda or cuda:N.",
    )


def recipe_options(recipe: Recipe | None, names: Container[str] = ALL) -> list[click.Parameter]:
    """Make one option per field of the recipe, its value as default; of those named alone.

    Without a recipe the defaults are those of a run that was trained with others like them.
    """
    options: list[click.Parameter] = []
    for entry in (entry for entry in fields(Recipe) if entry.name in names):
        kind = _click_type(entry.type)
        default = None if recipe is None else getattr(recipe, entry.name)
        name = f"--{entry.name}"
        is_flag = kind is click.BOOL and default is not None
        also = [f"--{entry.metadata['also']}"] if "also" in entry.metadata else []
        extra: dict[str, Any] = {"is_flag": True} if is_flag else {}
        if "bare" in entry.metadata:
            extra = {"is_flag": False, "flag_value": entry.metadata["bare"]}
        if entry.name == "effective_batch_size" and recipe is not None:
            extra = {"callback": partial(_effective_batch_size, recipe)}
        options.append(
            Option(
                [name if kind is not click.BOOL or is_flag else f"{name}/--no_{entry.name}", *also],
                type=None if kind is click.BOOL else kind,
                default=default,
                show_default=default is not None and not is_flag,
                help=entry.metadata["help"] if recipe else _run_help(entry),
                group=entry.metadata["group"],
                **extra,
            )
        )
    return options


def _effective_batch_size(
    recipe: Recipe, ctx: click.Context, _: click.Parameter, value: int | None
) -> int | None:
    """Take the task's own batch size for what `--batch_size auto` splits, where none is given."""
    given = ctx.params
    if value is not None or given["batch_size"] != "auto" or recipe.batch_size == "auto":
        return value
    return int(recipe.batch_size * given["gradient_accumulation_steps"])


def _run_help(entry: Any) -> str:
    text = entry.metadata["help"].partition(" [default")[0].rstrip(".")
    own = "the task's" if entry.default is None else entry.default
    return f"{text} [default: the run's, else {own}]."


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if Auto in get_args(annotation):
        return CountOrAuto()
    if isinstance(annotation, UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    return {int: click.INT, float: click.FLOAT, bool: click.BOOL, str: click.STRING}[annotation]


def source_options() -> list[click.Parameter]:
    """Make the options that say where the data lies."""
    group = "Data"
    return [
        Option(
            ["--data_root"],
            group=group,
            help="Read the data in this folder: official files, images of tables, or what "
            "`datasets` saved; or `sample` for the embedded data [default: the task's Hub copy; of "
            "quic360 data/quic360].",
        ),
        Option(
            ["--hub_repo"],
            group=group,
            help="Read this Hub data set in place of the task's Hub copy.",
        ),
        Option(
            ["--hub_config"],
            group=group,
            help="Read this configuration of the Hub data set; a training trains on it.",
        ),
        Option(
            ["--hub_split"],
            group=group,
            help="Read this split of the Hub data set; a training trains on it.",
        ),
        Option(["--hub_revision"], group=group, help="Read this revision of the Hub data set."),
        Option(
            ["--hub_columns"],
            group=group,
            multiple=True,
            metavar="NAME=COLUMN",
            help="Read COLUMN of the Hub data set as the task's column NAME; may be repeated.",
        ),
    ]
