"""The menu of merges: the modes by name, and the settings of each. No torch: `--help` shows it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

RankLimit = int | float | Literal["full"]  # at most; or the share of the energy to keep


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one merge, checked and complete; `default_options` makes them.

    Attributes:
        weights: w_i, one per adapter.
        lam: scale of the whole result.
        density: share of the entries that trimming or dropping keeps.
        t: slerp's place on the arc, 0 at the first adapter and 1 at the second.
    """

    weights: tuple[float, ...]
    lam: float
    density: float
    t: float


class _Defaults(NamedTuple):
    """Default settings of a mode; None where it does not have the setting."""

    weights: Callable[[int], float] | None = None
    lam: float | None = None
    density: float | None = None
    t: float | None = None


def _average(num_adapters: int) -> float:
    return 1 / num_adapters


def _one(num_adapters: int) -> float:
    return 1.0


# dare's noise has (1 - density) / density times the energy of the signal: hence its higher density.
DEFAULTS = {
    "auto": _Defaults(weights=_average, lam=1.0),
    "linear": _Defaults(weights=_average, lam=1.0),
    "balanced": _Defaults(lam=1.0),
    "slerp": _Defaults(lam=1.0, t=0.5),
    "ties": _Defaults(weights=_one, lam=1.0, density=0.3),
    "dare_linear": _Defaults(weights=_average, lam=1.0, density=0.5),
    "dare_ties": _Defaults(weights=_one, lam=1.0, density=0.5),
    "magnitude_prune": _Defaults(weights=_average, lam=1.0, density=0.3),
    "core_ties": _Defaults(weights=_one, lam=1.0, density=0.3),
    "tsv": _Defaults(lam=1.0),
}
TRIMMING = ("ties", "magnitude_prune")
ELECTING = {"ties", "dare_ties", "core_ties"}


def default_options(
    mode: str,
    num_adapters: int,
    *,
    weights: Sequence[float] | None = None,
    lam: float | None = None,
    density: float | None = None,
    t: float | None = None,
) -> Options:
    """Return the settings of a merge: those given, and the mode's own for those that are None.

    Raises:
        ValueError: the mode is unknown, does not have a setting that is given or does not take so
            many adapters, or a value is out of its range.
    """
    if mode not in DEFAULTS:
        raise ValueError(f"unknown merge mode {mode!r}; the modes are {', '.join(DEFAULTS)}.")
    if mode == "slerp" and num_adapters != 2:
        raise ValueError(
            f"slerp merges exactly 2 adapters, got {num_adapters}; use linear or balanced for more."
        )
    defaults = DEFAULTS[mode]
    given = {"weights": weights, "lambda": lam, "density": density, "t": t}
    for (name, value), default in zip(given.items(), defaults, strict=True):
        if value is not None and default is None:
            raise ValueError(f"mode {mode} has no setting {name}; leave it out.")
    if weights is None:
        weights = [(defaults.weights or _one)(num_adapters)] * num_adapters
    options = Options(
        weights=tuple(weights),
        lam=_first(lam, defaults.lam, 1.0),
        density=_first(density, defaults.density, 1.0),
        t=_first(t, defaults.t, 0.5),
    )
    _check(options, mode, num_adapters)
    return options


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _check(options: Options, mode: str, num_adapters: int) -> None:
    if len(options.weights) != num_adapters:
        raise ValueError(
            f"weights must be one per adapter, got {len(options.weights)} for {num_adapters} "
            "adapters."
        )
    if not all(map(math.isfinite, options.weights)):
        raise ValueError(f"weights must be finite numbers, got {_listed(options.weights)}.")
    if mode in ELECTING and (min(options.weights) < 0 or max(options.weights) == 0):
        raise ValueError(
            f"weights of {mode} must be 0 or more and not all 0, got {_listed(options.weights)}; "
            "subtract an adapter with linear."
        )
    if not math.isfinite(options.lam):
        raise ValueError(f"lambda must be a finite number, got {options.lam}.")
    if not 0 < options.density <= 1:
        raise ValueError(f"density must be in (0, 1], got {options.density}.")
    if not 0 <= options.t <= 1:
        raise ValueError(f"t must be in [0, 1], got {options.t}.")


def _listed(values: Iterable[float]) -> str:
    return ", ".join(map(str, values))


def renormalize(options: Options, present: Sequence[bool]) -> Options:
    """Return the options for one module with weights that sum to 1 over the adapters that have it.

    It is the other rule for missing modules: in place of counting an absent adapter as an update
    of zero, divide by the sum of the weights present. Means over agreeing entries do so anyway.

    Args:
        options: those of the merge.
        present: whether each adapter has the module.
    """
    total = sum(weight for weight, is_here in zip(options.weights, present, strict=True) if is_here)
    if total == 0:
        raise ValueError(
            f"the weights {_listed(options.weights)} of the adapters that have a module sum to 0 "
            "and cannot be renormalised; count missing modules as zero."
        )
    weights = tuple(
        weight / total if is_here else 0.0
        for weight, is_here in zip(options.weights, present, strict=True)
    )
    return replace(options, weights=weights)
