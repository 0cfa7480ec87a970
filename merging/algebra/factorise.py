"""Merged updates as the two factors of one adapter, with the energy that the rank keeps.

Energy is the sum of squares of a matrix's entries, which is that of its singular values.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from merging.algebra.core import Cores
from merging.algebra.low_rank import LowRank

# Up to this many rows or columns (the smaller) a dense matrix is factored exactly.
_EXACT_SIDE = 512
_COLUMNS = 512  # of a matrix that are multiplied at a time
_OVERSAMPLING = 10
_POWER_ITERATIONS = 4
_BLOCK = 1 << 15  # entries worked on at a time: they stay in the cache, torch starts no threads


def concatenate(updates: Sequence[LowRank | None], coefficients: Sequence[float]) -> LowRank:
    """Return sum c_i D_i at the sum of the ranks: [B_1 .. B_N] and the stacked c_i s_i A_i.

    Args:
        updates: one per adapter, None where it does not have this module; at least one is there.
        coefficients: c_i, one per adapter.
    """
    present = [
        (update, coefficient * update.scale)
        for update, coefficient in zip(updates, coefficients, strict=True)
        if update is not None
    ]
    return LowRank(
        b=torch.cat([update.b for update, _ in present], dim=1),
        a=torch.cat([factor * update.a for update, factor in present]),
        scale=1.0,
    )


def from_core(
    cores: Cores, core: Tensor, rank: int | float | Literal["full"]
) -> tuple[LowRank, float]:
    """Return the best approximation of q_b @ core @ q_a.T of a rank, and the energy share it keeps.

    Best in the sense of Eckart and Young, from the singular values of the core alone.

    Args:
        cores: the basis.
        core: (R', R'') float64, merged.
        rank: the rank at most; or, between 0 and 1, the energy share to reach with the smallest
            rank; or "full", which loses nothing.
    """
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    energies = s.square()
    kept = len(s) if rank == "full" else _chosen_rank(energies, float(energies.sum()), rank)
    root = s[:kept].sqrt()
    update = LowRank(
        b=(cores.q_b @ (u[:, :kept] * root)).float(),
        a=((vh[:kept].T * root).T @ cores.q_a.T).float(),
        scale=1.0,
    )
    return update, _share(energies[:kept], float(energies.sum()))


def from_dense(delta: Tensor, rank: int | float) -> tuple[LowRank, float]:
    """Return the best approximation of a dense matrix of a rank, and the energy share it keeps.

    Exact, from the eigenvalues of the smaller Gram matrix, where a side is small, the rank is not,
    or the rank follows from the energy; else by a seeded randomised range finder with power
    iterations, https://arxiv.org/abs/0909.4061 algorithm 4.4, whose share is its own.

    Args:
        delta: (d_out, d_in) float32; it is left as it is.
        rank: the rank at most; or, between 0 and 1, the energy share to reach with the smallest
            rank.
    """
    if delta.shape[0] > delta.shape[1]:
        flipped, share = from_dense(delta.T, rank)
        return LowRank(b=flipped.a.T.contiguous(), a=flipped.b.T.contiguous(), scale=1.0), share
    total = energy(delta)
    width = rank + _OVERSAMPLING if isinstance(rank, int) else len(delta)
    is_exact = len(delta) <= _EXACT_SIDE or width > len(delta) // 4
    basis, energies = _gram_basis(delta) if is_exact else _randomised_basis(delta, width)
    kept = _chosen_rank(energies, total, rank)
    b = basis[:, :kept].float().contiguous()
    return LowRank(b=b, a=b.T @ delta, scale=1.0), _share(energies[:kept], total)


def energy(delta: Tensor) -> float:
    """Return the sum of squares of a matrix, in float64: float32 is 0.2 % off over 33 million."""
    rows = max(1, _BLOCK // delta.shape[1])
    return sum(float(block.double().square().sum()) for block in delta.split(rows))


def _gram_basis(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return all left singular vectors and squared singular values, largest first, in float64."""
    gram = torch.zeros(len(delta), len(delta), dtype=torch.float64)
    for block in delta.split(_COLUMNS, dim=1):
        columns = block.double()
        gram.addmm_(columns, columns.T)
    values, vectors = torch.linalg.eigh(gram)
    return vectors.flip(1), values.flip(0)


def _randomised_basis(delta: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return about the first `width` left singular vectors and squared singular values."""
    generator = torch.Generator().manual_seed(0)
    basis = delta @ torch.randn(delta.shape[1], width, generator=generator)
    for _ in range(_POWER_ITERATIONS):
        basis = delta @ (delta.T @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    u, s, _ = torch.linalg.svd((basis.T @ delta).double(), full_matrices=False)
    return basis.double() @ u, s.square()


def _chosen_rank(energies: Tensor, total: float, rank: int | float) -> int:
    """Return the rank itself, at most all, or the smallest that reaches an energy share."""
    if isinstance(rank, int):
        if rank < 1:
            raise ValueError(
                f"rank must be 1 or more, an energy share between 0 and 1, or full, got {rank}."
            )
        return min(rank, len(energies))
    if not 0 < rank < 1:
        raise ValueError(
            f"a rank given as an energy share must be between 0 and 1, got {rank}; give a whole "
            "number, or full to lose nothing."
        )
    return min(int((energies.cumsum(0) < rank * total).sum()) + 1, len(energies))


def _share(energies: Tensor, total: float) -> float:
    return min(1.0, float(energies.sum()) / total) if total else 1.0
