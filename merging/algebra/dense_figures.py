"""Figures of a dense merge of a module: how much of each adapter it has, and where they clash."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from merging.algebra.low_rank import LowRank
from merging.algebra.threads import side_by_side

_BLOCK = 1 << 17  # entries worked on at a time: they stay in the cache


@dataclass(frozen=True, slots=True)
class DenseFigures:
    """Sums over the entries of a module.

    Attributes:
        inner: per adapter, the sum of products of its update's entries with the merged ones.
        energy: the sum of squares of the merged entries.
        sign_conflict: share of contested entries on which the adapters disagree, 0 to 1. Contested
            are the entries where at least two updates are non-zero; they disagree where one is
            positive and another negative. 0 if no entry is contested.
    """

    inner: tuple[float, ...]
    energy: float
    sign_conflict: float


def dense_figures(updates: Sequence[LowRank | None], merged: Tensor) -> DenseFigures:
    """Sum up what the report says of a module; the updates are formed some rows at a time.

    Args:
        updates: one per adapter; None where it does not have the module.
        merged: (d_out, d_in) float32.
    """

    def add_up(start: int) -> tuple[float, ...]:
        rows = slice(start, start + num_rows)
        there = [None if update is None else update.rows(rows) for update in updates]
        # in float64, for float32 is 0.2 % off over 33 million
        block = merged[rows].double().view(-1)
        inner = (0.0 if u is None else float(block @ u.double().view(-1)) for u in there)
        counts = count_signs([update.numpy() for update in there if update is not None])
        return *counts, float(block @ block), *inner

    num_rows = max(1, _BLOCK // merged.shape[1])
    sums = torch.tensor(side_by_side(add_up, range(0, len(merged), num_rows)), dtype=torch.float64)
    contested, opposed, energy, *inner = sums.sum(dim=0).tolist()
    return DenseFigures(tuple(inner), energy, opposed / contested if contested else 0.0)


def count_signs(updates: "Sequence[np.ndarray]") -> tuple[int, int]:
    """Count the entries that are contested, and those of them with both signs.

    In numpy: torch takes four times as long to compare and count.
    """
    is_positive = is_negative = is_taken = is_contested = np.zeros(updates[0].shape, dtype=bool)
    for values in updates:
        is_positive = is_positive | (values > 0)
        is_negative = is_negative | (values < 0)
        is_contested = is_contested | (is_taken & (values != 0))
        is_taken = is_positive | is_negative
    return int(np.count_nonzero(is_contested)), int(np.count_nonzero(is_positive & is_negative))
