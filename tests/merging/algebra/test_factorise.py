"""Factors of a rank against the best approximation by numpy's SVD."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import merging.algebra.factorise
from merging.algebra.core import decompose
from merging.algebra.factorise import concatenate, energy, from_core, from_dense
from merging.algebra.low_rank import LowRank


def random_update(shape: tuple[int, int], rank: int, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(shape[0], rank, generator=generator)
    a = torch.randn(rank, shape[1], generator=generator)
    return LowRank(b, a, scale=2.0)


def best(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, float]:
    """Return the best approximation of a rank and its energy share, by Eckart and Young."""
    u, s, vh = np.linalg.svd(matrix.astype(float), full_matrices=False)
    return u[:, :rank] * s[:rank] @ vh[:rank], (s[:rank] ** 2).sum() / (s**2).sum()


def with_singular_values(values: list[float], shape: tuple[int, int]) -> Tensor:
    """Return a float32 matrix of a shape with these singular values, in random directions."""
    generator = torch.Generator().manual_seed(0)
    u, v = (
        torch.linalg.qr(torch.randn(side, len(values), generator=generator, dtype=torch.float64)).Q
        for side in shape
    )
    return ((u * torch.tensor(values, dtype=torch.float64)) @ v.T).float()


def test_concatenate_is_the_linear_combination_of_the_updates() -> None:
    first = LowRank(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 0.0, 1.0]]), 2.0)
    second = LowRank(torch.eye(2), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), 0.5)
    merged = concatenate([first, None, second], [0.5, 7.0, -2.0])
    assert (merged.rank, merged.scale) == (3, 1.0)
    # 0.5 * 2 * ((1,0,1), (2,0,2)) - 2 * 0.5 * ((0,1,0), (1,0,0))
    assert merged.dense().tolist() == [[1.0, -1.0, 1.0], [1.0, 0.0, 2.0]]


def test_coefficients_one_and_zero_give_the_first_adapter_back() -> None:
    first, second = random_update((6, 5), 2, 0), random_update((6, 5), 3, 1)
    merged = concatenate([first, second], [1.0, 0.0])
    assert merged.rank == 5
    torch.testing.assert_close(merged.dense(), first.dense())


def test_coefficients_of_equal_opposites_give_zero() -> None:
    first = random_update((6, 5), 2, 0)
    opposite = LowRank(-first.b, first.a, first.scale)
    merged = concatenate([first, opposite], [0.5, 0.5]).dense()
    assert merged.abs().max() <= 1e-6 * first.dense().abs().max()


def test_the_full_rank_loses_nothing() -> None:
    updates = [random_update((9, 7), 2, 0), random_update((9, 7), 3, 1)]
    cores = decompose(updates, (9, 7))
    merged, share = from_core(cores, cores.cores[0] - 3 * cores.cores[1], "full")
    assert (merged.rank, merged.scale, share) == (5, 1.0, 1.0)
    assert merged.b.dtype == merged.a.dtype == torch.float32
    expected = updates[0].dense() - 3 * updates[1].dense()
    torch.testing.assert_close(merged.dense(), expected, rtol=1e-5, atol=1e-5)


def test_more_rank_than_the_core_has_is_all_of_it() -> None:
    cores = decompose([random_update((9, 7), 2, 0)], (9, 7))
    merged, share = from_core(cores, cores.cores[0], 64)
    assert (merged.rank, share) == (2, pytest.approx(1))


def test_a_core_of_a_smaller_rank_is_the_best_approximation() -> None:
    updates = [random_update((9, 7), 2, 0), random_update((9, 7), 3, 1)]
    cores = decompose(updates, (9, 7))
    merged, share = from_core(cores, cores.cores.sum(dim=0), 3)
    expected, expected_share = best((updates[0].dense() + updates[1].dense()).numpy(), 3)
    assert merged.rank == 3
    assert share == pytest.approx(expected_share, rel=1e-6)
    np.testing.assert_allclose(merged.dense(), expected, atol=1e-4)


def test_the_factors_of_a_core_share_its_singular_values_evenly() -> None:
    cores = decompose([random_update((9, 7), 2, 0)], (9, 7))
    merged, _ = from_core(cores, cores.cores[0], "full")
    singular_values = np.linalg.svd(random_update((9, 7), 2, 0).dense().numpy())[1][:2]
    for squares in (merged.b.T @ merged.b, merged.a @ merged.a.T):
        np.testing.assert_allclose(squares, np.diag(singular_values), atol=1e-4)


# Energies 64, 16, 16, 4 of 100: shares 0.64, 0.80, 0.96, 1
VALUES = [8.0, 4.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("share", "rank", "kept"), [(0.5, 1, 0.64), (0.7, 2, 0.8), (0.95, 3, 0.96), (0.999, 4, 1.0)]
)
def test_an_energy_share_gives_the_smallest_rank_that_reaches_it(
    share: float, rank: int, kept: float
) -> None:
    cores = decompose([LowRank(torch.eye(6)[:, :4], torch.eye(4, 5), 1.0)], (6, 5))
    core = torch.diag(torch.tensor(VALUES, dtype=torch.float64))
    from_small, small_kept = from_core(cores, core, share)
    from_large, large_kept = from_dense(with_singular_values(VALUES, (6, 9)), share)
    assert from_small.rank == from_large.rank == rank
    assert small_kept == pytest.approx(kept, rel=1e-9)
    assert large_kept == pytest.approx(kept, rel=1e-5)


def test_a_zero_matrix_keeps_all_of_no_energy_in_one_direction() -> None:
    cores = decompose([None, random_update((6, 5), 1, 0)], (6, 5))
    for merged, share in (
        from_core(cores, cores.cores[0], 0.9),
        from_dense(torch.zeros(6, 5), 0.9),
    ):
        assert (merged.rank, share) == (1, 1.0)
        assert not merged.dense().any()


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_a_dense_matrix_of_a_rank_is_the_best_approximation(shape: tuple[int, int]) -> None:
    delta = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = delta.clone()
    merged, share = from_dense(delta, 3)
    expected, expected_share = best(delta.numpy(), 3)
    assert (merged.shape, merged.rank) == (shape, 3)
    assert share == pytest.approx(expected_share, rel=1e-5)
    np.testing.assert_allclose(merged.dense(), expected, atol=1e-5)
    assert torch.equal(delta, before)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_the_randomised_factors_are_within_a_thousandth_of_the_best(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging.algebra.factorise, "_EXACT_SIDE", 0)
    monkeypatch.setattr(merging.algebra.factorise, "_gram_basis", None)
    delta = with_singular_values([0.9**index for index in range(60)], shape)
    merged, share = from_dense(delta, 4)
    expected_share = best(delta.numpy(), 4)[1]
    assert merged.rank == 4
    assert expected_share * 0.999 <= share <= expected_share + 1e-6
    lost = np.linalg.norm((delta - merged.dense()).double()) ** 2 / np.linalg.norm(delta) ** 2
    assert share == pytest.approx(1 - lost, abs=1e-5)
    again, _ = from_dense(delta, 4)
    assert torch.equal(again.b, merged.b) and torch.equal(again.a, merged.a)


def test_energy_is_summed_in_float64() -> None:
    # 4096^2 + 1 = 16777217 is the first whole number that float32 does not have
    assert energy(torch.tensor([[4096.0, 1.0], [0.0, 0.0]])) == 16777217.0


def test_energy_counts_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging.algebra.factorise, "_BLOCK", 4)
    # 0^2 + ... + 20^2 = 20 * 21 * 41 / 6
    assert energy(torch.arange(21.0).reshape(7, 3)) == 2870.0


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, "rank must be 1 or more, an energy share between 0 and 1, or full, got 0"),
        (1.0, "must be between 0 and 1, got 1.0"),
        (math.nan, "must be between 0 and 1, got nan"),
    ],
)
def test_ranks_out_of_range_are_refused(rank: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dense(torch.ones(3, 4), rank)
