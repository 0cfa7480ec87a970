"""Properties that rules of merges keep."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from merging.algebra.core import decompose
from merging.algebra.low_rank import LowRank
from merging.algebra.methods import (
    CORE,
    DENSE,
    mask_seed,
    num_kept,
)
from merging.algebra.modes import MODES, default_options
from tests.merging.algebra.plain_methods import (
    DETERMINISTIC,
    SHAPE,
    assert_shares,
    dropped,
    evenly_factored,
    matrix,
    merge,
    negative,
    random_update,
    slow_ties,
    slow_trim,
    slow_tsv,
)


def test_a_density_that_keeps_nothing_gives_zero() -> None:
    assert num_kept(63, 0.01) == 0
    for mode in ("ties", "magnitude_prune", "core_ties"):
        options = default_options(mode, 2, density=0.01)
        assert not merge(mode, [random_update(2, 0), random_update(2, 1)], options).any()


def test_magnitude_prune_is_the_weighted_sum_of_the_trimmed_updates() -> None:
    updates = [random_update(2, 0), random_update(3, 1)]
    options = default_options("magnitude_prune", 2, weights=[2, -1], lam=0.5, density=0.4)
    first, second = (
        np.array(slow_trim(matrix(update).ravel().tolist(), 0.4)).reshape(SHAPE)
        for update in updates
    )
    merged = merge("magnitude_prune", updates, options)
    np.testing.assert_allclose(merged, 0.5 * (2 * first - second), rtol=1e-6)


def test_dare_entries_are_the_masked_sums_with_independent_masks() -> None:
    # kept entries are divided by 0.25, so 4 and 40; both, first, second, neither are kept
    expected = {44.0: 1 / 16, 4.0: 3 / 16, 40.0: 3 / 16, 0.0: 9 / 16}
    given = {"weights": [1, 1], "density": 0.25}
    assert_shares(dropped("dare_linear", 1.0, 10.0, **given), expected)


def test_dare_ties_elects_among_the_entries_that_are_kept() -> None:
    # 2 and -6 where kept: the second wins wherever it is
    assert_shares(dropped("dare_ties", 1.0, -3.0), {-6.0: 1 / 2, 2.0: 1 / 4, 0.0: 1 / 4})


def test_dare_that_keeps_all_is_linear_or_ties() -> None:
    updates = [random_update(2, 0), random_update(2, 1)]
    for mode, other in (("dare_linear", "linear"), ("dare_ties", "ties")):
        everything = default_options(mode, 2, density=1.0)
        torch.testing.assert_close(
            merge(mode, updates, everything), merge(other, updates, everything)
        )


def test_the_mean_of_dare_over_seeds_is_linear() -> None:
    updates = [random_update(2, 0), random_update(2, 1)]
    options = default_options("dare_linear", 2)
    mean = torch.zeros(SHAPE)
    for seed in range(2000):
        seeds = [mask_seed(seed, "m", index) for index in range(2)]
        mean += DENSE["dare_linear"]([u.dense() for u in updates], options, seeds) / 2000
    error = np.linalg.norm(mean.numpy() - merge("linear", updates).numpy())
    # the noise of one draw has the energy of the two halves, (1 - p) / p = 1 times
    noise = math.hypot(*(np.linalg.norm(matrix(update)) / 2 for update in updates))
    assert error < 1.3 * noise / math.sqrt(2000)


def test_the_mask_of_an_adapter_does_not_depend_on_the_other_adapters() -> None:
    first, second = random_update(2, 0), random_update(2, 1)
    options = default_options("dare_linear", 2, weights=[1, 0])
    torch.testing.assert_close(
        merge("dare_linear", [first, second], options), merge("dare_linear", [first, None], options)
    )


def test_mask_seeds_come_from_a_hash_of_what_they_are_for() -> None:
    # sha256sum of "0/layers.0.q_proj/1" begins aa7fe5c2910a58c2; half of it fits 63 bits
    assert mask_seed(0, "layers.0.q_proj", 1) == 0xAA7FE5C2910A58C2 // 2
    seeds = {mask_seed(*parts) for parts in product(range(3), ["q", "k", "v"], range(3))}
    assert len(seeds) == 27


@pytest.mark.parametrize("density", [0.3, 0.5, 1.0])
def test_core_ties_is_ties_in_the_basis_of_singular_vectors(density: float) -> None:
    updates = [random_update(2, 0), random_update(3, 1, 2.0)]
    options = default_options("core_ties", 2, weights=[1, 2], lam=0.8, density=density)
    left, right = zip(*map(evenly_factored, updates), strict=True)
    u, v = (np.linalg.svd(np.hstack(factors))[0][:, :5] for factors in (left, right))
    expected = u @ slow_ties([u.T @ matrix(update) @ v for update in updates], options) @ v.T
    np.testing.assert_allclose(merge("core_ties", updates, options), expected, atol=1e-4)


def test_tsv_is_the_definition_in_the_full_space() -> None:
    updates = [random_update(2, 0), random_update(3, 1, 2.0)]
    np.testing.assert_allclose(merge("tsv", updates), slow_tsv(updates, [2, 3]), atol=1e-4)
    half = default_options("tsv", 2, lam=0.5)
    np.testing.assert_allclose(
        merge("tsv", updates, half), slow_tsv(updates, [2, 3]) / 2, atol=1e-4
    )


def test_tsv_shares_the_rows_where_the_ranks_are_more() -> None:
    updates = [random_update(4, 0), random_update(4, 1)]
    # 8 triples are more than 7 columns: floor(7 / 2) of each
    np.testing.assert_allclose(merge("tsv", updates), slow_tsv(updates, [3, 3]), atol=1e-4)


def test_tsv_of_orthogonal_adapters_is_their_sum() -> None:
    first = LowRank(torch.eye(9)[:, :2], torch.tensor([[3.0], [2.0]]) * torch.eye(7)[:2], 1.0)
    second = LowRank(torch.eye(9)[:, 4:6], torch.tensor([[5.0], [1.0]]) * torch.eye(7)[5:], 1.0)
    torch.testing.assert_close(merge("tsv", [first, second]), first.dense() + second.dense())


def test_tsv_of_copies_is_the_adapter() -> None:
    update = random_update(2, 0)
    torch.testing.assert_close(merge("tsv", [update] * 3), update.dense(), rtol=0, atol=1e-5)


def test_tsv_does_not_blow_up_the_differences_of_near_copies() -> None:
    first, noise = random_update(2, 0), random_update(2, 1)
    second = LowRank(first.b + 0.02 * noise.b, first.a + 0.02 * noise.a, 1.0)
    merged = merge("tsv", [first, second]).numpy()
    for update in (first, second):
        target = matrix(update)
        cosine = (merged * target).sum() / np.linalg.norm(merged) / np.linalg.norm(target)
        assert cosine > 0.995  # without the guard 0.71 and less


def test_tsv_leaves_out_directions_of_rounding() -> None:
    # a third direction of 1e-9: as a singular vector it would weigh as much as the others
    update, stray, other = random_update(2, 0), random_update(1, 2), random_update(2, 1)
    b = torch.cat([update.b, 1e-9 * stray.b], dim=1)
    padded = LowRank(b, torch.cat([update.a, stray.a]), 1.0)
    expected = slow_tsv([update, other], [2, 2])
    np.testing.assert_allclose(merge("tsv", [padded, other]), expected, atol=1e-4)


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_the_order_of_the_adapters_does_not_matter(mode: str) -> None:
    updates = [random_update(2, 0), random_update(3, 1, 2.0)]
    torch.testing.assert_close(
        merge(mode, updates), merge(mode, updates[::-1]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_split_into_b_and_a_does_not_matter(mode: str) -> None:
    first, second = random_update(2, 0), random_update(3, 1, 2.0)
    change = torch.tensor([[1.0, 2.0], [1.0, 3.0]])
    inverse = torch.tensor([[3.0, -2.0], [-1.0, 1.0]])
    other = LowRank(first.b @ change, inverse @ first.a, first.scale)
    torch.testing.assert_close(
        merge(mode, [other, second]), merge(mode, [first, second]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("mode", MODES)
def test_an_adapter_and_its_opposite_give_zero(mode: str) -> None:
    update = random_update(2, 0)
    options = default_options(mode, 2)
    if mode.startswith("dare"):  # two masks leave entries that nothing opposes
        options = default_options(mode, 2, density=1.0)
    merged = merge(mode, [update, negative(update)], options)
    assert merged.abs().max() <= 1e-5 * update.dense().abs().max()


@pytest.mark.parametrize("mode", ["linear", "balanced", "auto", "slerp", "tsv"])
def test_an_adapter_with_itself_is_the_adapter(mode: str) -> None:
    update = random_update(2, 0)
    torch.testing.assert_close(merge(mode, [update, update]), update.dense(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_zero_adapter_leaves_a_finite_merge(mode: str) -> None:
    zero = LowRank(torch.zeros(9, 2), torch.ones(2, 7), 1.0)
    merged = merge(mode, [zero, random_update(2, 0)])
    assert merged.isfinite().all() and merged.any()
    assert not merge(mode, [zero, zero]).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_merge_done_twice_is_the_same_to_the_last_bit(mode: str) -> None:
    updates = [random_update(2, 0), random_update(3, 1, 2.0)]
    assert torch.equal(merge(mode, updates), merge(mode, updates))


@pytest.mark.parametrize("mode", CORE)
def test_a_core_rule_leaves_the_cores_as_they_are(mode: str) -> None:
    cores = decompose([random_update(2, 0), random_update(2, 1)], SHAPE).cores
    before = cores.clone()
    CORE[mode](cores, default_options(mode, 2))
    assert torch.equal(cores, before)
