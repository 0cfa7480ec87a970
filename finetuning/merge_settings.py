"""What the options of a merge say, as the settings of its arithmetic."""

import itertools
from typing import Any

from merging.merge import Rank
from merging.methods import DEFAULTS

# What `auto` tries where it can measure: the scale matters more than the method.
AUTO_GRID: tuple[dict[str, Any], ...] = (
    {"mode": "linear"},
    *({"mode": mode, "lam": lam} for mode in ("balanced", "tsv") for lam in (0.5, 0.7, 1.0)),
    *({"mode": "ties", "density": density} for density in (0.3, 0.5)),
    {"mode": "dare_ties", "density": 0.5},
    {"mode": "core_ties"},
)


def parse_rank(text: str) -> Rank:
    """`full`, a whole number, or an energy share.

    Raises:
        ValueError: it is none of these.
    """
    if text == "full":
        return "full"
    try:
        rank = float(text)
    except ValueError:
        rank = 0.0
    if text.isdecimal() and rank >= 1:
        return int(text)
    if 0 < rank < 1:
        return rank
    raise ValueError(
        f"--rank takes full, a whole number from 1, or an energy share below 1, got {text}."
    )


def parse_weights(text: str | None) -> list[float] | None:
    """`0.5,0.5` -> numbers.

    Raises:
        ValueError: they are none.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"--weights takes numbers with commas between, as 0.5,0.5; got {text}."
        ) from error


def parse_grid(text: str) -> list[dict[str, Any]]:
    """`mode=linear,ties density=0.2,0.5 lambda=0.5,1` -> the settings of each candidate.

    A setting that a mode does not have is left out of that mode's candidates.

    Raises:
        ValueError: not of this form, or an unknown mode or setting.
    """
    kinds = {"mode": str, "density": float, "lambda": float, "t": float}
    axes: dict[str, list[Any]] = {}
    for part in text.split():
        name, equals, choices = part.partition("=")
        if name not in kinds or not equals:
            raise ValueError(
                "--sweep takes mode=…, density=…, lambda=… and t=… with blanks between, got "
                f"{part}."
            )
        try:
            axes[name.replace("lambda", "lam")] = [kinds[name](c) for c in choices.split(",")]
        except ValueError as error:
            raise ValueError(f"--sweep takes numbers for {name}, got {choices}.") from error
    candidates: list[dict[str, Any]] = []
    for chosen in itertools.product(*axes.values()):
        candidate = dict(zip(axes, chosen, strict=True))
        if candidate.get("mode") not in DEFAULTS:
            raise ValueError(
                f"--sweep needs modes out of {', '.join(DEFAULTS)}, got {candidate.get('mode')}."
            )
        has = DEFAULTS[candidate["mode"]]
        candidate = {
            k: v for k, v in candidate.items() if k == "mode" or getattr(has, k) is not None
        }
        if candidate not in candidates:
            candidates.append(candidate)
    return candidates
