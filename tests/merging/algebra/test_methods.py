"""Rules of merges against arithmetic by hand."""

import math

import numpy as np
import pytest
import torch

import merging.algebra.methods
from merging.algebra.methods import (
    DENSE,
    num_kept,
)
from merging.algebra.modes import MODES, default_options, renormalize
from tests.merging.algebra.plain_methods import (
    ELECTING,
    SHAPE,
    coefficients,
    matrix,
    merge,
    random_update,
    slow_ties,
    slow_trim,
    ties_by_hand,
    trimmed,
)


def test_defaults_are_an_average_for_linear_kinds_and_a_vote_of_equals_for_electing_ones() -> None:
    for mode in ("linear", "dare_linear", "magnitude_prune"):
        assert default_options(mode, 4).weights == (0.25, 0.25, 0.25, 0.25)
    for mode in ELECTING:
        assert default_options(mode, 3).weights == (1, 1, 1)
    assert {mode: default_options(mode, 2).density for mode in DENSE} == {
        "ties": 0.3,
        "magnitude_prune": 0.3,
        "dare_linear": 0.5,
        "dare_ties": 0.5,
    }
    assert {default_options(mode, 2).lam for mode in MODES} == {1.0}


def test_settings_that_are_given_replace_the_defaults() -> None:
    options = default_options("ties", 2, weights=[1, 2], lam=0.7, density=1.0)
    assert (options.weights, options.lam, options.density) == ((1, 2), 0.7, 1.0)
    assert default_options("slerp", 2, t=0.0).t == 0.0


@pytest.mark.parametrize(
    ("mode", "num_adapters", "given", "message"),
    [
        ("sum", 2, {}, "unknown merge mode 'sum'; the modes are auto, linear,"),
        ("slerp", 3, {}, "slerp merges exactly 2 adapters, got 3"),
        ("ties", 2, {"density": 0.0}, r"density must be in \(0, 1\], got 0.0"),
        ("ties", 2, {"density": 1.5}, r"density must be in \(0, 1\], got 1.5"),
        ("ties", 2, {"density": math.nan}, r"density must be in \(0, 1\], got nan"),
        ("linear", 2, {"density": 0.3}, "mode linear has no setting density; leave it out"),
        ("auto", 2, {"density": 0.5}, "mode auto has no setting density"),
        ("tsv", 2, {"weights": [1, 1]}, "mode tsv has no setting weights"),
        ("linear", 2, {"weights": [1, 1, 1]}, "one per adapter, got 3 for 2 adapters"),
        ("linear", 2, {"weights": [1, math.inf]}, "weights must be finite numbers, got 1, inf"),
        ("ties", 2, {"weights": [1, -1]}, "weights of ties must be 0 or more .* got 1, -1"),
        ("core_ties", 2, {"weights": [0, 0]}, "weights of core_ties must be .* not all 0"),
        ("linear", 2, {"lam": math.nan}, "lambda must be a finite number, got nan"),
        ("slerp", 2, {"t": 1.5}, r"t must be in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(
    mode: str, num_adapters: int, given: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        default_options(mode, num_adapters, **given)


def test_renormalised_weights_sum_to_one_over_the_adapters_that_have_the_module() -> None:
    options = default_options("linear", 3, weights=[0.25, 0.25, 0.5], lam=2.0)
    renormalised = renormalize(options, [True, False, True])
    assert renormalised.weights == pytest.approx((1 / 3, 0, 2 / 3))
    assert renormalised.lam == 2.0


def test_weights_that_cancel_cannot_be_renormalised() -> None:
    with pytest.raises(ValueError, match="sum to 0 and cannot be renormalised"):
        renormalize(default_options("linear", 2, weights=[1, -1]), [True, True])


def test_linear_scales_the_weights() -> None:
    assert coefficients("linear", [[1, 0], [0, 1]], weights=[3, -1], lam=0.5) == [1.5, -0.5]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[4, 0], [0, 9]], [1, 1]),  # orthogonal: the sum
        ([[4, 4], [4, 4]], [1 / 2, 1 / 2]),  # copies: the average
        ([[4, -4], [-4, 4]], [1 / 2, 1 / 2]),  # opposites
        ([[4, 3], [3, 9]], [2 / 3, 2 / 3]),  # cosine 3 / (2 * 3) = 1/2
        ([[1, 1, 0], [1, 1, 0], [0, 0, 4]], [1 / 2, 1 / 2, 1]),  # two copies and a stranger
        ([[4, 0], [0, 0]], [1, 1]),  # an untrained adapter
    ],
)
def test_balanced_divides_by_the_sum_of_the_cosines(
    rows: list[list[float]], expected: list[float]
) -> None:
    assert coefficients("balanced", rows) == pytest.approx(expected)
    halves = [value / 2 for value in expected]
    assert coefficients("balanced", rows, lam=0.5) == pytest.approx(halves)


def test_balanced_lies_between_the_average_and_the_sum() -> None:
    for seed in range(20):
        vectors = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).double()
        for value in coefficients("balanced", (vectors @ vectors.T).tolist()):
            assert 1 / 4 <= value <= 1


def test_auto_without_scores_is_the_average() -> None:
    rows = [[3.0, 0.0], [0.0, 100.0], [1.0, 1.0]]
    assert coefficients("auto", rows) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("rows", "t", "expected"),
    [
        ([[4, 0], [0, 9]], 0.5, [0.5**0.5, 0.5**0.5]),  # 90 degrees: sin 45 / sin 90
        ([[4, 0], [0, 9]], 1 / 3, [0.75**0.5, 0.5]),  # sin 60, sin 30
        # 60 degrees: sin 30 / sin 60 = 3^-0.5
        ([[1, 1], [1, 4]], 0.5, [3**-0.5, 3**-0.5]),
        ([[4, 0], [0, 9]], 0.0, [1, 0]),
        ([[4, 4], [4, 4]], 0.25, [0.75, 0.25]),  # parallel: the line
        ([[4, -4], [-4, 4]], 0.25, [0.75, 0.25]),
        ([[1, 0.9996], [0.9996, 1]], 0.25, [0.75, 0.25]),
        ([[4, 0], [0, 0]], 0.25, [0.75, 0.25]),  # no angle with zero
    ],
)
def test_slerp_goes_along_the_arc(rows: list[list[float]], t: float, expected: list[float]) -> None:
    assert coefficients("slerp", rows, t=t) == pytest.approx(expected, abs=1e-12)
    doubled = [2 * value for value in expected]
    assert coefficients("slerp", rows, t=t, lam=2.0) == pytest.approx(doubled, abs=1e-12)


def test_slerp_of_unit_updates_has_unit_norm() -> None:
    first, second = coefficients("slerp", [[1, 0.3], [0.3, 1]], t=0.2)
    assert first**2 + second**2 + 2 * 0.3 * first * second == pytest.approx(1)


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (0.25, [0, -5, 0, 0, 0]),  # floor(1.25) = 1
        (0.4, [0, -5, 3, 0, 0]),  # of three entries of magnitude 3 the first stays
        (0.6, [0, -5, 3, -3, 0]),
        (0.99, [0, -5, 3, -3, 3]),  # floor(4.95) = 4
        (1.0, [1, -5, 3, -3, 3]),
        (0.19, [0, 0, 0, 0, 0]),  # floor(0.95) = 0
    ],
)
def test_trimming_keeps_exactly_the_floor_of_the_share_lowest_index_first(
    density: float, expected: list[float]
) -> None:
    assert trimmed([1.0, -5.0, 3.0, -3.0, 3.0], density) == expected
    assert num_kept(5, density) == sum(value != 0 for value in expected)


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_trimming_is_that_of_a_stable_sort_whatever_the_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging.algebra.methods, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 10):
        values = torch.randint(-4, 5, (41,), generator=generator).double().tolist()
        assert trimmed(values, step / 10) == slow_trim(values, step / 10)


def test_ties_averages_the_entries_that_agree_with_the_sign_of_greater_mass() -> None:
    options = default_options("ties", 2, density=1.0)
    assert ties_by_hand(options) == [2.0, 4.0, 2.0, 0.0, 0.0, -2.0]


def test_ties_weighs_the_vote_and_the_mean() -> None:
    options = default_options("ties", 2, density=1.0, weights=[3, 1], lam=0.5)
    # masses 6, 11, 6, 6, 0, 1: the first adapter now wins the fourth and the sixth entry, and the
    # first is (3 * 1 + 1 * 3) / 4
    assert ties_by_hand(options) == [0.75, 2.0, 1.0, 1.5, 0.0, 0.5]


def test_only_the_ratios_of_the_weights_matter_to_ties() -> None:
    halves = default_options("ties", 2, density=1.0, weights=[0.5, 0.5])
    assert ties_by_hand(halves) == ties_by_hand(default_options("ties", 2, density=1.0))


def test_an_adapter_of_weight_zero_has_no_part_in_ties() -> None:
    options = default_options("ties", 2, density=1.0, weights=[1, 0])
    assert ties_by_hand(options) == [1.0, 4.0, 2.0, 3.0, 0.0, 1.0]


@pytest.mark.parametrize("density", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("block", [5, 1000])
def test_ties_is_the_definition_read_literally(
    density: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging.algebra.methods, "_BLOCK", block)
    updates = [random_update(2, 0), None, random_update(3, 1, 100.0), random_update(1, 2)]
    weights = [1.0, 2.0, 0.5, 4.0]
    options = default_options("ties", 4, weights=weights, lam=0.7, density=density)
    expected = slow_ties([matrix(update) for update in updates], options)
    np.testing.assert_allclose(merge("ties", updates, options), expected, rtol=1e-6)
    assert expected.any()


def test_ties_of_equal_signs_that_keeps_all_is_the_mean() -> None:
    deltas = [torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    mean = (deltas[0] + deltas[1]) / 2
    merged = DENSE["ties"](deltas, default_options("ties", 2, density=1.0), ())
    torch.testing.assert_close(merged, mean)


def test_ties_of_an_adapter_with_itself_is_the_trimmed_adapter() -> None:
    update = random_update(2, 0)
    expected = np.array(slow_trim(matrix(update).ravel().tolist(), 0.3)).reshape(SHAPE)
    np.testing.assert_array_equal(merge("ties", [update, update]), expected)


def test_a_lone_adapter_keeps_its_whole_trimmed_update_in_ties_and_its_share_in_linear() -> None:
    update = random_update(2, 0)
    expected = np.array(slow_trim(matrix(update).ravel().tolist(), 0.3)).reshape(SHAPE)
    np.testing.assert_array_equal(merge("ties", [None, update]), expected)
    np.testing.assert_array_equal(merge("linear", [None, update]), matrix(update) / 2)
