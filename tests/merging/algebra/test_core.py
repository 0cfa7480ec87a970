"""Cores against the dense updates that they stand for."""

import numpy as np
import pytest
import torch

from merging.algebra.core import Cores, decompose, gram, overlaps
from merging.algebra.low_rank import LowRank


def random_update(shape: tuple[int, int], rank: int, seed: int, scale: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(shape[0], rank, generator=generator)
    a = torch.randn(rank, shape[1], generator=generator)
    return LowRank(b, a, scale)


def dense(update: LowRank | None, shape: tuple[int, int]) -> np.ndarray:
    if update is None:
        return np.zeros(shape)
    return update.scale * update.b.numpy().astype(float) @ update.a.numpy().astype(float)


def assert_exact(cores: Cores, updates: list[LowRank | None], shape: tuple[int, int]) -> None:
    """Each update comes back, relative to its own norm, and the bases are orthonormal."""
    for core, update in zip(cores.cores, updates, strict=True):
        expected = dense(update, shape)
        error = np.linalg.norm((cores.q_b @ core @ cores.q_a.T).numpy() - expected)
        assert error <= 1e-12 * np.linalg.norm(expected)
    for q in (cores.q_b, cores.q_a):
        torch.testing.assert_close(q.T @ q, torch.eye(q.shape[1], dtype=torch.float64))


ZERO_B = LowRank(torch.zeros(9, 2), torch.ones(2, 7), 1.0)


@pytest.mark.parametrize(
    ("updates", "rows", "columns"),
    [
        pytest.param(
            [random_update((9, 7), 2, 0), random_update((9, 7), 3, 1)], 5, 5, id="mixed ranks"
        ),
        pytest.param([None, random_update((9, 7), 2, 0)], 2, 2, id="missing module"),
        pytest.param(
            [random_update((9, 7), 2, 0, 100.0), random_update((9, 7), 2, 1)], 4, 4, id="scale gap"
        ),
        pytest.param([ZERO_B, random_update((9, 7), 2, 0)], 2, 2, id="zero b"),
        pytest.param(
            [random_update((9, 7), 4, seed) for seed in range(3)], 9, 7, id="more ranks than rows"
        ),
        pytest.param([random_update((9, 7), 2, 0)] * 2, 2, 2, id="copies"),
    ],
)
def test_updates_come_back_exactly_from_a_basis_of_their_numerical_rank(
    updates: list[LowRank | None], rows: int, columns: int
) -> None:
    cores = decompose(updates, (9, 7))
    assert cores.cores.dtype == torch.float64
    assert cores.cores.shape == (len(updates), rows, columns)
    assert_exact(cores, updates, (9, 7))


def test_a_shared_a_gives_cores_with_fewer_columns_than_rows() -> None:
    first, second = random_update((9, 7), 2, 0), random_update((9, 7), 2, 1)
    updates = [first, LowRank(second.b, first.a, 3.0)]
    cores = decompose(updates, (9, 7))
    assert cores.cores.shape == (2, 4, 2)
    assert_exact(cores, updates, (9, 7))


def test_updates_that_are_all_zero_keep_one_direction() -> None:
    cores = decompose([ZERO_B, None], (9, 7))
    assert cores.cores.shape == (2, 1, 1)
    assert not cores.cores.any()
    assert_exact(cores, [ZERO_B, None], (9, 7))


def test_the_basis_is_of_the_singular_vectors_of_the_evenly_factored_updates() -> None:
    updates = [random_update((9, 7), 2, 0, 5.0), random_update((9, 7), 3, 1)]
    left, right = [], []
    for update in updates:
        u, s, vh = np.linalg.svd(dense(update, (9, 7)))
        left.append(u[:, : update.rank] * np.sqrt(s[: update.rank]))
        right.append(vh[: update.rank].T * np.sqrt(s[: update.rank]))
    cores = decompose(updates, (9, 7))
    for q, stacked in ((cores.q_b, left), (cores.q_a, right)):
        expected = np.linalg.svd(np.hstack(stacked))[0][:, :5]
        np.testing.assert_allclose(abs(expected.T @ q.numpy()), np.eye(5), atol=1e-9)


def test_the_basis_does_not_depend_on_the_split_into_b_and_a() -> None:
    first, second = random_update((9, 7), 2, 0), random_update((9, 7), 2, 1)
    change = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    other = LowRank(first.b @ change, change.inverse() @ first.a, first.scale)
    cores, others = decompose([first, second], (9, 7)), decompose([other, second], (9, 7))
    torch.testing.assert_close(others.cores.abs(), cores.cores.abs(), rtol=0, atol=1e-4)


def test_opposites_have_opposite_cores_to_the_last_bit() -> None:
    update = random_update((9, 7), 3, 0)
    cores = decompose([update, LowRank(-update.b, update.a, 1.0)], (9, 7)).cores
    assert torch.equal(cores[0], -cores[1])


def test_gram_holds_the_inner_products_of_the_dense_updates() -> None:
    updates = [random_update((9, 7), 2, 0, 3.0), None, random_update((9, 7), 4, 1)]
    flat = np.stack([dense(update, (9, 7)).ravel() for update in updates])
    result = gram(decompose(updates, (9, 7)).cores)
    assert result.dtype == torch.float64
    np.testing.assert_allclose(result, flat @ flat.T, rtol=1e-12, atol=1e-12)


def unit_update(rows: list[int], columns: list[int]) -> LowRank:
    """Ones at (rows[i], columns[i]) of a 6 x 5 matrix."""
    return LowRank(torch.eye(6)[:, rows], torch.eye(5)[columns], 1.0)


def test_overlaps_are_the_shared_directions_of_the_smaller_space() -> None:
    updates = [unit_update([0, 1], [0, 1]), unit_update([1, 2, 3], [2, 3, 4]), None]
    left, right = overlaps(decompose(updates, (6, 5)).cores)
    # outputs {0, 1} and {1, 2, 3} share one of two; inputs {0, 1} and {2, 3, 4} none
    np.testing.assert_allclose(left, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(right, [[1, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-12)
