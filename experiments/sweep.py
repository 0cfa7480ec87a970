"""The axes of a grid beside models, variants and tasks: settings of a training, each by values."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import product
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from common.hints import names_here, why_not_needed
from experiments.training_options import own_name, own_value
from finetuning.training.recipe import Recipe
from finetuning.training.settings import SEEDS, check_setting, in_words

# settings of a model that its training takes
OF_MODELS = ("image_size", "min_pixels", "max_pixels")
_LONGEST_LABEL = 40
_NO_FILE_NAME = re.compile(r"[^\w.+-]+")
_NO_SCORE = "it changes no score"
_OTHER_EXAMPLES = "scores of other examples cannot be compared"
_FOLDER = "each run has a folder of its own"
_OUTPUT = "it decides what is reported, not how the model is trained"
_LISTED = "models are listed under models"
_DATA = "data is named under data or tasks"
# why a setting is no axis
_NO_AXIS = {
    **dict.fromkeys(
        ("logging_steps", "save_steps", "save_total_limit", "save_strategy"), _NO_SCORE
    ),
    **dict.fromkeys(("max_eval_samples", "eval_split", "eval_seed"), _OTHER_EXAMPLES),
    "on_bad_image": _OTHER_EXAMPLES,
    **dict.fromkeys(("output_dir", "resume", "overwrite"), _FOLDER),
    **dict.fromkeys(("report_to", "use_wandb", "wandb_project", "clip_model"), _OUTPUT),
    **dict.fromkeys(("num_viz_samples", "images_budget", "push_to_hub"), _OUTPUT),
    "skip_evaluation": "without a score there is nothing to compare",
    **dict.fromkeys(("model_path", "model_id", "hf_model_id", "model_type", "revision"), _LISTED),
    **dict.fromkeys(("data_root", "task", "train_csv", "val_csv", "test_csv", "hub_repo"), _DATA),
    **dict.fromkeys(("seed", "seeds"), "seeds are averaged over; write seeds: [1, 2] beside sweep"),
    "eval_strategy": "write `eval_epochs: [true, false]`, or values of eval_steps",
}
_OVERRULED = {"num_epochs": "max_steps", "warmup_ratio": "warmup_steps"}  # by the latter


@dataclass(frozen=True, slots=True)
class Axis:
    """A setting and the values that it takes in turn.

    Attributes:
        name: of the setting on the command line.
        values: as its option takes them.
    """

    name: str
    values: tuple[Any, ...]


def given_settings(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings to which a grid's file gives one value, each with the place of that.

    Args:
        content: of the file, of the shape that a grid has.
    """
    parts = {"training": content.get("training", {})}
    for part in ("models", "lora_variants"):
        parts |= {f"{part}[{n}]": entry for n, entry in enumerate(content.get(part, ()))}
    places = {
        f"{part}.{key}": key
        for part, entry in parts.items()
        for key, value in entry.items()
        if value is not None
    }
    by_strategy = {"eval_strategy": ("eval_epochs", "eval_steps")}
    return {
        name: place
        for place, key in places.items()
        for name in by_strategy.get(key, (own_name(key),))
    }


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise ValueError where one is out of range or there twice."""
    for number, seed in enumerate(seeds):
        check_setting(f"seeds[{number}]", seed, SEEDS, int)
        if seed in seeds[:number]:
            raise ValueError(f"seeds has {seed} twice; give each seed once.")


def read_axes(
    sweep: Mapping[str, Any], given: Mapping[str, str] = MappingProxyType({})
) -> list[Axis]:
    """Return the axes that `sweep` of a grid names.

    Args:
        sweep: setting -> its values, as the file has them.
        given: setting on the command line -> where the file gives it one value.

    Raises:
        ValueError: a name is unknown or no axis, a value is wrong or there twice, the setting is
            given elsewhere too, or another one leaves it without effect; names the key.
    """
    axes: dict[str, str] = {}
    found = []
    for key, values in sweep.items():
        name = own_name(str(key))
        place = f"sweep.{key}"
        _check_name(str(key), name)
        for other in (axes.get(name), given.get(name)):
            if other is not None:
                raise ValueError(
                    f"{place} and {other} are the same setting; leave one of them out."
                )
        axes[name] = place
        found.append(Axis(name, _values(name, place, values)))
    for name, stronger in _OVERRULED.items():
        other = axes.get(stronger, given.get(stronger))
        if name in axes and other is not None:
            raise ValueError(
                f"{axes[name]} changes nothing beside {other}, which decides; leave one of "
                "them out."
            )
    return found


def _axes() -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Every setting that can be an axis: its type and its range."""
    known: dict[str, tuple[Any, Mapping[str, Any]]] = {
        entry.name: (entry.type, entry.metadata)
        for entry in fields(Recipe)
        if entry.name not in _NO_AXIS
    }
    return known | dict.fromkeys(OF_MODELS, (int, {"minimum": 1}))


def _check_name(key: str, name: str) -> None:
    """Raise ValueError where a key is no setting that can be an axis; say what is meant."""
    known = _axes()
    if name in known:
        return
    if reason := _NO_AXIS.get(name):
        raise ValueError(f"sweep.{key} is no axis of a grid: {reason}.")
    if reason := why_not_needed(key):
        raise ValueError(f"sweep.{key} is not needed: {reason}.")
    if meant := names_here(key, {f"--{other}" for other in known}):
        names = " or ".join(entry.removeprefix("--") for entry in meant)
        raise ValueError(f"sweep.{key} is {names} here.")
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
    raise ValueError(f"sweep.{key} is no setting of a training; {hint}")


def _values(name: str, place: str, values: Any) -> tuple[Any, ...]:
    """Check the values of a setting; return them as its option takes them."""
    if not isinstance(values, list):
        raise ValueError(
            f"{place} must be a list of values, got {_show(values)}; write {_show([values])}."
        )
    if not values:
        raise ValueError(f"{place} is empty; list its values, or leave it out.")
    kind, allowed = _axes()[name]
    found: list[Any] = []
    for number, given in enumerate(values):
        value = _value(own_value(name, given), kind)
        if value is None:
            raise ValueError(f"{place}[{number}] must be {in_words(kind)}, got {_show(given)}.")
        try:
            check_setting(name, value, allowed, kind)
        except ValueError as error:
            raise ValueError(f"{place}[{number}]: {error}") from error
        if value in found:
            raise ValueError(
                f"{place} has {_show(given)} twice ({place}[{found.index(value)}] and "
                f"[{number}] are equal); give each value once."
            )
        found.append(value)
    return tuple(found)


def _value(given: Any, kind: Any) -> Any:
    """Return a value of this type; None where it is none. YAML 1.1 reads 1e-4 as text."""
    if isinstance(given, bool) and bool not in (get_args(kind) or (kind,)):
        return None
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError:
        return None


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def combinations(axes: Iterable[Axis]) -> list[dict[str, Any]]:
    """Return every combination of the values of axes, in the order of the file."""
    axes = list(axes)
    return [
        {axis.name: value for axis, value in zip(axes, values, strict=True)}
        for values in product(*(axis.values for axis in axes))
    ]


def label(name: str, value: Any) -> str:
    """Return `NAME=VALUE` as a part of a file name, another one for each value.

    A text that is long, or that a file name cannot hold, is cut and has a hash behind it.
    """
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{name}={int(value)}"
    text = str(value)
    plain = text
    if isinstance(value, str):
        plain = "?" if "+" in text else text.replace(",", "+")
    if not _NO_FILE_NAME.search(plain) and "__" not in plain and len(plain) <= _LONGEST_LABEL:
        return f"{name}={plain}"
    start = re.sub("__+", "_", _NO_FILE_NAME.sub("-", text))[: _LONGEST_LABEL // 2].strip("-")
    return f"{name}={start}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
