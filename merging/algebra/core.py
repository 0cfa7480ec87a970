"""All updates of one module in one small common basis: D_i = q_b M_i q_a^T.

Norms, angles and singular values of any combination of the D_i are those of the same combination
of the M_i, which have as many rows and columns as the adapters have ranks together. This is the
core space of https://arxiv.org/abs/2509.17786, with a basis that depends on the updates alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.algebra.low_rank import LowRank

# The factors are known to float32: what is smaller, relative to the largest, is rounding.
_RANK_TOLERANCE = torch.finfo(torch.float32).eps


@dataclass(frozen=True, slots=True, eq=False)
class Cores:
    """N updates D_i = q_b @ cores[i] @ q_a.T of one module, all float64.

    Attributes:
        q_b: (d_out, R') with orthonormal columns.
        q_a: (d_in, R'') with orthonormal columns.
        cores: (N, R', R'').
    """

    q_b: Tensor
    q_a: Tensor
    cores: Tensor


def decompose(updates: Sequence[LowRank | None], shape: tuple[int, int]) -> Cores:
    """Write the updates of one module in a common orthonormal basis.

    Entrywise rules on the cores depend on the basis, so it is fixed: q_b holds the left singular
    vectors of [B_1 .. B_N] and q_a the right ones of the stacked A_i, where each update is first
    factored evenly, B_i = U sqrt(S) and A_i = sqrt(S) V^T from its own singular values. Taken from
    the factors as stored, as the paper does, another split of the same update into B and A would
    give another merge. Directions of no energy are left out, though one is always kept.

    Args:
        updates: one per adapter; None where the adapter does not have this module, which is an
            update of zero. At least one is there.
        shape: (d_out, d_in) of the module's weight.
    """
    present = [update for update in updates if update is not None]
    assert present and all(update.shape == shape for update in present)
    ranks = [update.rank for update in present]
    q_b, r_b = torch.linalg.qr(torch.cat([_scaled_b(update) for update in present], dim=1))
    q_a, r_a = torch.linalg.qr(torch.cat([update.a.double().T for update in present], dim=1))
    triples = [
        numerical_svd(block_b @ block_a.T)
        for block_b, block_a in zip(r_b.split(ranks, dim=1), r_a.split(ranks, dim=1), strict=True)
    ]
    q_b = q_b @ _directions([u * s.sqrt() for u, s, _ in triples])
    q_a = q_a @ _directions([v * s.sqrt() for _, s, v in triples])
    # Projected one by one, copies have the same core to the last bit, and opposites its negative.
    zero = q_b.new_zeros(q_b.shape[1], q_a.shape[1])
    cores = [
        zero if update is None else (q_b.T @ _scaled_b(update)) @ (update.a.double() @ q_a)
        for update in updates
    ]
    return Cores(q_b, q_a, torch.stack(cores))


def gram(cores: Tensor) -> Tensor:
    """Return the (N, N) float64 inner products of the updates; over modules they add up.

    Args:
        cores: (N, R', R'') of one module.
    """
    return torch.einsum("nij,mij->nm", cores, cores)


def cosines(gram: Tensor) -> Tensor:
    """Return the (N, N) cosines of updates with these inner products, 0 where one is zero."""
    norms = gram.diagonal().sqrt()
    return (gram / torch.outer(norms, norms)).nan_to_num(nan=0.0).clamp(-1, 1)


def overlaps(cores: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the adapters share output and input directions, two (N, N) matrices, 0 to 1.

    |U_i^T U_j|^2 / min(r_i, r_j), for the left and for the right singular vectors: 1 where the
    smaller space lies in the other. 0 where an update is zero.

    Args:
        cores: (N, R', R'') of one module.
    """
    triples = [numerical_svd(core) for core in cores]
    return _overlap([u for u, _, _ in triples]), _overlap([v for _, _, v in triples])


def numerical_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (m, r), S (r,), V (n, r) of a float64 matrix for its numerical rank r, even 0."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    rank = _numerical_rank(s)
    return u[:, :rank], s[:rank], vh[:rank].T


def _numerical_rank(singular_values: Tensor) -> int:
    """Count the singular values, largest first, that are more than rounding."""
    return int((singular_values > _RANK_TOLERANCE * singular_values[:1]).sum())


def _directions(factors: list[Tensor]) -> Tensor:
    """Return the left singular vectors of the factors side by side; the first even of none."""
    u, s, _ = torch.linalg.svd(torch.cat(factors, dim=1))
    directions: Tensor = u[:, : max(1, _numerical_rank(s))]
    return directions


def _scaled_b(update: LowRank) -> Tensor:
    return update.scale * update.b.double()


def _overlap(bases: list[Tensor]) -> Tensor:
    shared = [
        [
            float((first.T @ second).square().sum()) / max(1, min(first.shape[1], second.shape[1]))
            for second in bases
        ]
        for first in bases
    ]
    return torch.tensor(shared, dtype=torch.float64)
