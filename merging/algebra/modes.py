"""The merge modes, one row each, and their settings. `--help` reads them, so no torch here."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

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


def _average(num_adapters: int) -> float:
    return 1 / num_adapters


def _one(num_adapters: int) -> float:
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One merge mode: the settings that it has, their defaults, and its demands on adapters.

    Attributes:
        name: the value of `--mode`.
        kind: the table of `merging.algebra.methods` that holds its rule.
        source: the publication, or the origin of the rule.
        weights: gives the default weight from the number of adapters; None without weights.
        lam: the default scale of the whole result.
        density: the default density; None without this setting.
        t: the default place on slerp's arc; None without this setting.
        elects: signs are elected, so weights must not be negative.
        trims: the smallest entries are set to zero.
        takes_dora: updates that are not low rank can be merged.
        num_adapters: the exact number of adapters; None for any number.
    """

    name: str
    kind: Literal["coefficients", "core", "dense"]
    source: str
    weights: Callable[[int], float] | None = None
    lam: float = 1.0
    density: float | None = None
    t: float | None = None
    elects: bool = False
    trims: bool = False
    takes_dora: bool = False
    num_adapters: int | None = None


_ARITHMETIC = "https://arxiv.org/abs/2212.04089"
_TIES = "https://arxiv.org/abs/2306.01708"
_DARE = "https://arxiv.org/abs/2311.03099"
# The noise of dare has (1 - density) / density times the energy of the signal.
# Its default density is higher for this reason.
_ROWS = (
    Mode(name="auto", kind="coefficients", source=_ARITHMETIC, weights=_average, takes_dora=True),
    Mode(name="linear", kind="coefficients", source=_ARITHMETIC, weights=_average, takes_dora=True),
    Mode(name="balanced", kind="coefficients", source="PaliTune"),
    Mode(
        name="slerp",
        kind="coefficients",
        source="https://doi.org/10.1145/325334.325242",
        t=0.5,
        num_adapters=2,
    ),
    Mode(
        name="ties",
        kind="dense",
        source=_TIES,
        weights=_one,
        density=0.3,
        elects=True,
        trims=True,
        takes_dora=True,
    ),
    Mode(
        name="dare_linear",
        kind="dense",
        source=_DARE,
        weights=_average,
        density=0.5,
        takes_dora=True,
    ),
    Mode(
        name="dare_ties",
        kind="dense",
        source=_DARE,
        weights=_one,
        density=0.5,
        elects=True,
        takes_dora=True,
    ),
    Mode(
        name="magnitude_prune",
        kind="dense",
        source=_TIES,
        weights=_average,
        density=0.3,
        trims=True,
        takes_dora=True,
    ),
    Mode(name="core_ties", kind="core", source=_TIES, weights=_one, density=0.3, elects=True),
    Mode(name="tsv", kind="core", source="https://arxiv.org/abs/2412.00081"),
)
MODES = {mode.name: mode for mode in _ROWS}


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
    if mode not in MODES:
        raise ValueError(f"unknown merge mode {mode!r}; the modes are {', '.join(MODES)}.")
    row = MODES[mode]
    if row.num_adapters not in (None, num_adapters):
        raise ValueError(
            f"{mode} merges exactly {row.num_adapters} adapters, got {num_adapters}; use linear or "
            "balanced for more."
        )
    given = {"weights": weights, "lambda": lam, "density": density, "t": t}
    defaults = (row.weights, row.lam, row.density, row.t)
    for (name, value), default in zip(given.items(), defaults, strict=True):
        if value is not None and default is None:
            raise ValueError(f"mode {mode} has no setting {name}; leave it out.")
    if weights is None:
        weights = [(row.weights or _one)(num_adapters)] * num_adapters
    options = Options(
        weights=tuple(weights),
        lam=_first(lam, row.lam),
        density=_first(density, row.density, 1.0),
        t=_first(t, row.t, 0.5),
    )
    _check(options, row, num_adapters)
    return options


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _check(options: Options, mode: Mode, num_adapters: int) -> None:
    if len(options.weights) != num_adapters:
        raise ValueError(
            f"weights must be one per adapter, got {len(options.weights)} for {num_adapters} "
            "adapters."
        )
    if not all(map(math.isfinite, options.weights)):
        raise ValueError(f"weights must be finite numbers, got {_listed(options.weights)}.")
    if mode.elects and (min(options.weights) < 0 or max(options.weights) == 0):
        raise ValueError(
            f"weights of {mode.name} must be 0 or more and not all 0, got "
            f"{_listed(options.weights)}; subtract an adapter with linear."
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
    The same goes for a bias or a whole tensor.

    Args:
        options: those of the merge.
        present: for each adapter, true where it has the module.

    Raises:
        ValueError: the weights present sum to 0.
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
