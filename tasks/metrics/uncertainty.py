"""The uncertainty of a mean over examples drawn from all that could be asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

_MAX_GROUPS = 256
_ROUNDING = 1e-9  # of the range; differences of scores that are equal may be so far apart


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Of a mean, in the units of the values.

    Attributes:
        standard_error: of the mean; None for a single value, which says nothing of the spread.
        interval_95: its 95 % interval, (lower, upper); None for a single value.
        num_resamples: the resamples drawn; 0 where the interval is that of equal values, and for a
            single value.
        seed: what they are drawn with.
    """

    standard_error: float | None
    interval_95: tuple[float, float] | None
    num_resamples: int
    seed: int


def mean_uncertainty(
    values: Sequence[float],
    bounds: tuple[float, float] | None = None,
    *,
    seed: int = 0,
    num_resamples: int = 10_000,
) -> Uncertainty:
    """Compute standard error and 95 % interval of the mean of some values.

    The standard error is the sample standard deviation (n - 1) over the root of n. The interval
    runs from the 2.5th to the 97.5th percentile of the means of resamples with replacement, the
    percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 2
    and 13, https://doi.org/10.1201/9780429246593). The same values and seed give the same result.

    Examples are taken as independent of each other. Questions about one image are not quite, so
    that both are a little narrow there. CIDEr fits with the document frequencies of the whole
    split held fixed.

    A resample is drawn as the number of times that each distinct value comes up in it, which is
    multinomial. Over 256 distinct values, neighbours in size are counted together, and what they
    add to the sum is drawn as normal with their exact mean and variance. That is the bootstrap's
    own distribution but for the shape of what happens within such a narrow group, and keeps time
    and memory the same for any number of values.

    Where all values are equal, all resamples are too and say nothing. Within `bounds` the interval
    is then an exact one, by Clopper and Pearson's limit; see `_of_equal_values`.

    Args:
        values: of each example, in any order and unit.
        bounds: the least and the greatest value that an example can have. Without them, or with a
            value beyond them, the interval of equal values is the bootstrap's, of no width.
        seed: for the resamples.
        num_resamples: how many to draw.

    Raises:
        ValueError: there is no value.
    """
    import numpy as np

    num_values = len(values)
    if not num_values:
        raise ValueError("the uncertainty of a mean needs at least one value, got 0.")
    if num_values == 1:
        return Uncertainty(None, None, 0, seed)
    if bounds is not None and (exact := _of_equal_values(values, *bounds)):
        return Uncertainty(0.0, exact, 0, seed)
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    origin = distinct[0]  # measured from it, a constant has no rounding to be mistaken for spread
    distinct = distinct - origin
    variance = _moments(distinct, counts, [0])[2].item() * num_values / (num_values - 1)
    step = -(-len(distinct) // _MAX_GROUPS)
    sizes, means, variances = _moments(distinct, counts, range(0, len(distinct), step))
    random = np.random.default_rng(seed)
    drawn = random.multinomial(num_values, sizes / num_values, size=num_resamples)
    sums = drawn @ means + np.sqrt(drawn @ variances) * random.standard_normal(num_resamples)
    lower, upper = np.quantile(sums / num_values, [0.025, 0.975]) + origin
    interval = (float(lower), float(upper))
    return Uncertainty(sqrt(variance / num_values), interval, num_resamples, seed)


def _of_equal_values(
    values: Sequence[float], low: float, high: float
) -> tuple[float, float] | None:
    """Return the interval where all values are equal and within bounds, else None.

    None of n examples differs from v, so the chance that an example does is at most
    p = 1 - 0.025^(1/n), the exact limit for 0 of n (Clopper and Pearson, The Use of Confidence or
    Fiducial Limits Illustrated in the Case of the Binomial, Biometrika 26, 1934,
    https://doi.org/10.1093/biomet/26.4.404). The mean then lies from v - p (v - low) to
    v + p (high - v).
    """
    rounding = _ROUNDING * (high - low)
    least, greatest = min(values), max(values)
    if greatest - least > rounding or least < low - rounding or greatest > high + rounding:
        return None
    chance = 1 - 0.025 ** (1 / len(values))
    value = min(max(least, low), high)
    return value - chance * (value - low), value + chance * (high - value)


def _moments(distinct: Any, counts: Any, starts: Sequence[int]) -> tuple[Any, Any, Any]:
    """Size, mean and variance of each group of values; a group ends where the next one starts."""
    import numpy as np

    sizes = np.add.reduceat(counts, starts)
    means = np.add.reduceat(counts * distinct, starts) / sizes
    deviations = distinct - np.repeat(means, np.diff(starts, append=len(distinct)))
    return sizes, means, np.add.reduceat(counts * deviations**2, starts) / sizes
