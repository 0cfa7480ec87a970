"""The checks and choices of models that share one base in memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from evaluation.found_model import FoundModel
from models.fingerprint import same_weights

logger = logging.getLogger(__name__)
T = TypeVar("T")


def check_one_base(found: Sequence[FoundModel]) -> None:
    """Raise ValueError where a model is there twice, or they stand on several bases."""
    first = found[0].checkpoint
    seen: dict[Path | None, str] = {}
    for one in found:
        path, own = one.wanted.path, one.checkpoint
        is_same_base = (own.base, own.revision) == (first.base, first.revision) or same_weights(
            own.fingerprint, first.fingerprint
        )
        if not is_same_base or own.family is not first.family:
            raise ValueError(
                f"{found[0].wanted.path} stands on {first.base}, and {path} on {own.base}: one "
                "base is held in memory, so name a base and adapters of it alone."
            )
        if own.adapter in seen:
            raise ValueError(f"{seen[own.adapter]} and {path} are one model; name each once.")
        seen[own.adapter] = path


def in_one_precision(found: Sequence[FoundModel]) -> list[FoundModel]:
    """Have all models held in the precision asked for, else in that of the adapters.

    Raises:
        ValueError: the adapters have several.
    """
    from models.loading import choose_device, choose_dtype

    adapters = [one for one in found if one.checkpoint.adapter is not None] or found
    quantization = _the_one({one.quantization: one for one in adapters}, "quantization")
    device = choose_device(found[0].wanted.device)
    own = {choose_dtype(one.dtype, device): one for one in adapters}
    dtype = _the_one({one.dtype: one for one in own.values()}, "dtype")
    logger.info("The base is held once, in %s.", quantization)
    return [
        replace(one, quantization=quantization, wanted=replace(one.wanted, dtype=dtype))
        for one in found
    ]


def _the_one(found: Mapping[T, FoundModel], option: str) -> T:
    """Return the only precision of some models, or say which there are."""
    if len(found) > 1:
        said = " and ".join(f"{one.wanted.path} in {name}" for name, one in found.items())
        raise ValueError(
            f"One base is held in one precision, and there are {said}; choose by --{option}."
        )
    (only,) = found
    return only
