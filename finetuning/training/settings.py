"""The settings of a recipe: the choices of some, and the checks of one and of a batch."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal, get_args

from models.settings import Auto

Recomputation = Literal["auto", "on", "off"]
LossReduction = Literal["example", "token"]
# those of transformers that need no settings of their own
Scheduler = Literal[
    "cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
]
SEEDS = {"minimum": 0, "maximum": 2**32 - 1}  # as numpy takes them


def check_setting(name: str, value: Any, allowed: Mapping[str, Any], kind: Any) -> None:
    """Verify the value of a setting.

    Args:
        name: as the user knows it.
        value: of it.
        allowed: `minimum`, `maximum`, `above` and `below` of it, where there are such.
        kind: the annotation.

    Raises:
        ValueError: it is out of range, or None where the annotation has no None; names it, the
            value and the range.
    """
    if value is None:
        if type(None) in get_args(kind):
            return
        raise ValueError(f"{name} must be {in_words(kind)}, got nothing.")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value}.")
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}.")
    if isinstance(value, str):
        if Auto in choices and value != "auto":
            raise ValueError(f"{name} must be a number or auto, got {value}.")
        return
    if "minimum" in allowed and not value >= allowed["minimum"]:
        raise ValueError(f"{name} must be at least {allowed['minimum']}, got {value}.")
    if "maximum" in allowed and not value <= allowed["maximum"]:
        raise ValueError(f"{name} must be at most {allowed['maximum']}, got {value}.")
    if "above" in allowed and not value > allowed["above"]:
        raise ValueError(f"{name} must be above {allowed['above']}, got {value}.")
    if "below" in allowed and not value < allowed["below"]:
        raise ValueError(f"{name} must be below {allowed['below']}, got {value}.")


def check_batch(size: int | Auto, accumulated: int, wanted: int | None) -> None:
    """Verify that the settings of the batch go together.

    Args:
        size: of a micro-batch.
        accumulated: micro-batches per optimiser step.
        wanted: examples per optimiser step; None takes what the two make.

    Raises:
        ValueError: they contradict each other, or it is unknown how many examples a step has.
    """
    if size == "auto" and wanted is None:
        raise ValueError(
            "batch_size auto needs effective_batch_size: how many examples an optimiser step has."
        )
    if size != "auto" and wanted not in (None, size * accumulated):
        raise ValueError(
            f"effective_batch_size {wanted} is not batch_size times gradient_accumulation_steps, "
            f"{size} x {accumulated}; leave it out, or take batch_size auto."
        )


def check_generation(settings: Mapping[str, Any]) -> None:
    """Verify that settings of generation go together; absent ones and None are the default.

    Raises:
        ValueError: one would have no effect, or the fewest tokens are more than the most.
    """
    drawn = [name for name in ("temperature", "top_p") if settings.get(name) not in (None, 1.0)]
    if drawn and not settings.get("do_sample"):
        raise ValueError(
            f"{' and '.join(drawn)} would change nothing, as answers are drawn with do_sample "
            "alone; add it, or leave out the others."
        )
    fewest, most = settings.get("min_new_tokens") or 0, settings.get("max_new_tokens")
    if most is not None and fewest > most:
        raise ValueError(
            f"min_new_tokens {fewest} is over max_new_tokens {most}; lower the one or raise the "
            "other."
        )


def in_words(kind: Any) -> str:
    """Return how a sentence names the values of a type."""
    words: dict[Any, str] = {
        **{int: "a whole number", float: "a number", bool: "true or false", str: "text"},
        list[str]: "a list of texts",
    }
    parts = [kind] if kind in words else [p for p in get_args(kind) if p is not type(None)]
    texts = [part for part in parts if isinstance(part, str)]  # the choices of a Literal
    for part in parts:
        if part not in words and not isinstance(part, str):
            texts += get_args(part)
    numbers = [words[part] for part in parts if part in words]
    if numbers:
        return " or ".join([*numbers, *texts])
    return f"one of {', '.join(texts)}"
