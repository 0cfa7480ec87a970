"""The uncertainty of a mean: against closed forms, and a plain bootstrap that draws each value."""

import tracemalloc
from collections.abc import Sequence
from math import comb, sqrt
from random import Random

import pytest

from tasks.metrics import uncertainty
from tasks.metrics.uncertainty import mean_uncertainty


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    found = mean_uncertainty(values, seed=seed).interval_95
    assert found is not None
    return found


def slow_interval(values: Sequence[float], num_resamples: int) -> tuple[float, float]:
    """The percentile bootstrap as the book has it: draw n values, take their mean, sort."""
    random = Random(7)
    size = len(values)
    means = sorted(sum(random.choices(values, k=size)) / size for _ in range(num_resamples))
    return means[num_resamples // 40], means[-num_resamples // 40]


def skewed(num_values: int) -> list[float]:
    random = Random(3)
    return [random.expovariate(1) ** 1.5 for _ in range(num_values)]


def test_the_standard_error_is_the_sample_deviation_over_the_root_of_n() -> None:
    # mean 2.5, squares 2.25 + 0.25 + 0.25 + 2.25 = 5; 5 / (4 - 1) / 4 = 5 / 12
    assert mean_uncertainty([1, 2, 3, 4]).standard_error == pytest.approx(sqrt(5 / 12))
    # mean 2, squares 1 + 1 + 4 = 6 over four values: 6 / (4 - 1) / 4 = 1 / 2
    assert mean_uncertainty([1, 4, 1, 2]).standard_error == pytest.approx(sqrt(1 / 2))


def test_of_rights_and_wrongs_the_interval_is_binomial() -> None:
    # 120 right of 400: the number of rights in a resample is binomial (400, 0.3)
    cumulated, quantiles = 0.0, []
    for rights in range(401):
        before = cumulated
        cumulated += comb(400, rights) * 0.3**rights * 0.7 ** (400 - rights)
        quantiles += [rights / 400 for level in (0.025, 0.975) if before < level <= cumulated]
    found = interval([1.0] * 120 + [0.0] * 280)
    # one right more or less; the interval is 36 of them wide
    assert found == pytest.approx(tuple(quantiles), abs=1.01 / 400)


@pytest.mark.parametrize("num_values", [5, 60])
def test_the_interval_is_that_of_a_plain_bootstrap(num_values: int) -> None:
    values = skewed(num_values)
    error = mean_uncertainty(values).standard_error
    assert error is not None
    assert interval(values) == pytest.approx(slow_interval(values, 8000), abs=0.12 * error)


@pytest.mark.parametrize("max_groups", [2, 30])
def test_values_counted_together_keep_their_spread(
    max_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncertainty, "_MAX_GROUPS", max_groups)
    values = skewed(300)
    error = mean_uncertainty(values).standard_error
    assert error is not None
    assert interval(values) == pytest.approx(slow_interval(values, 3000), abs=0.15 * error)


def test_a_mean_of_skewed_values_has_an_interval_that_leans_to_their_side() -> None:
    values = [0.0] * 29 + [1.0]
    mean = sum(values) / 30
    lower, upper = interval(values)
    assert lower == 0.0  # (29 / 30) ** 30 = 36 % of the resamples lack the one
    assert upper - mean > 1.9 * (mean - lower)


@pytest.mark.parametrize("value", [0.1, -7.3, 0.0, 100.0])
def test_constants_without_bounds_have_no_uncertainty(value: float) -> None:
    found = mean_uncertainty([value] * 3)  # 3 * 0.1 / 3 is not 0.1 in floating point
    assert (found.standard_error, found.interval_95) == (0.0, (value, value))


# Clopper and Pearson's exact limits of 0 and n of n at 95 %, as scipy 1.17 has them:
# binomtest(0, n).proportion_ci(method="exact"); for two by hand, 1 - the root of 0.025
@pytest.mark.parametrize(
    ("num_values", "chance"), [(2, 0.841886), (5, 0.521824), (30, 0.115703), (1000, 0.003682)]
)
def test_of_equal_values_the_interval_is_exact(num_values: int, chance: float) -> None:
    def ends(value: float, low: float, high: float) -> tuple[float, float]:
        found = mean_uncertainty([value] * num_values, (low, high))
        assert (found.standard_error, found.num_resamples) == (0.0, 0)
        assert found.interval_95 is not None
        return found.interval_95

    assert ends(0, 0, 1) == pytest.approx((0, chance), abs=1e-6)
    assert ends(1, 0, 1) == pytest.approx((1 - chance, 1), abs=1e-6)
    # in percent, and of differences: all the same, or all from wrong to right
    assert ends(100, 0, 100) == pytest.approx((100 - 100 * chance, 100), abs=1e-4)
    assert ends(0, -1, 1) == pytest.approx((-chance, chance), abs=1e-6)
    assert ends(1, -1, 1) == pytest.approx((1 - 2 * chance, 1), abs=1e-6)
    # 30 of 100: up to 30 lower and 70 higher
    assert ends(30, 0, 100) == pytest.approx((30 - 30 * chance, 30 + 70 * chance), abs=1e-4)


def test_differences_that_rounding_alone_tells_apart_are_equal() -> None:
    values = [0.3 - 0.1, 0.4 - 0.2, 0.9 - 0.7]
    assert len(set(values)) > 1
    # 1 - 0.025 ** (1 / 3) = 0.7076: 0.2 - 1.2 * 0.7076, 0.2 + 0.8 * 0.7076
    found = mean_uncertainty(values, (-1, 1)).interval_95
    assert found == pytest.approx((-0.64912, 0.76608), abs=1e-4)


def test_values_beyond_their_bounds_have_the_bootstrap_of_others() -> None:
    assert mean_uncertainty([3.0] * 4, (0, 1)) == mean_uncertainty([3.0] * 4)


def test_bounds_change_nothing_where_values_differ() -> None:
    for values in ([0.0] * 29 + [1.0], [0.2, 0.4]):
        assert mean_uncertainty(values, (0, 1)) == mean_uncertainty(values)


def test_percent_are_a_hundred_times_the_shares() -> None:
    values = skewed(40)
    shares, percent = mean_uncertainty(values), mean_uncertainty([100 * value for value in values])
    assert shares.standard_error is not None and shares.interval_95 is not None
    assert percent.standard_error == pytest.approx(100 * shares.standard_error)
    assert percent.interval_95 == pytest.approx([100 * bound for bound in shares.interval_95])


def test_values_further_up_have_the_same_interval_further_up() -> None:
    values = skewed(40)
    expected = [bound - 50 for bound in interval(values)]
    assert interval([value - 50 for value in values]) == pytest.approx(expected)


@pytest.mark.parametrize("num_values", [50, 600])
def test_the_result_depends_on_values_and_seed_alone(num_values: int) -> None:
    values = skewed(num_values)
    shuffled = Random(1).sample(values, num_values)
    assert mean_uncertainty(values, seed=4) == mean_uncertainty(shuffled, seed=4)
    assert interval(values, seed=4) != interval(values, seed=5)


def test_more_resamples_of_a_seed_move_the_interval_little() -> None:
    values = skewed(50)
    few, many = (mean_uncertainty(values, num_resamples=number) for number in (4000, 40_000))
    assert (few.num_resamples, many.num_resamples) == (4000, 40_000)
    assert few.standard_error is not None and many.interval_95 is not None
    assert few.interval_95 != many.interval_95
    assert few.interval_95 == pytest.approx(many.interval_95, abs=0.15 * few.standard_error)


def test_of_one_value_nothing_is_claimed() -> None:
    found = mean_uncertainty([3.0], seed=2)
    assert found == uncertainty.Uncertainty(None, None, num_resamples=0, seed=2)


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^.* at least one value, got 0\.$"):
        mean_uncertainty([])


def test_a_split_of_distinct_values_needs_little_memory() -> None:
    values = skewed(132_000)
    tracemalloc.start()
    mean_uncertainty(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # drawn one by one, the 10,000 resamples are 1.3e9 values
