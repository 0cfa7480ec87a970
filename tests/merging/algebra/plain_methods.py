"""Helpers and slow oracles of the tests of merge rules."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from merging.algebra.core import decompose, gram
from merging.algebra.factorise import concatenate
from merging.algebra.low_rank import LowRank
from merging.algebra.methods import (
    COEFFICIENTS,
    CORE,
    DENSE,
    mask_seed,
    trim_,
)
from merging.algebra.modes import MODES, Options, default_options

SHAPE = (9, 7)


ELECTING = ["ties", "dare_ties", "core_ties"]


def merge(mode: str, updates: Sequence[LowRank | None], options: Options | None = None) -> Tensor:
    """Merge one module as the caller of the tables does, to a dense matrix."""
    options = options or default_options(mode, len(updates))
    if mode in DENSE:
        zero = torch.zeros(SHAPE)
        deltas = [zero.clone() if update is None else update.dense() for update in updates]
        return DENSE[mode](deltas, options, [mask_seed(0, "m", i) for i in range(len(updates))])
    cores = decompose(updates, SHAPE)
    if mode in CORE:
        core = CORE[mode](cores.cores, options, min(SHAPE))
        return (cores.q_b @ core @ cores.q_a.T).float()
    return concatenate(updates, COEFFICIENTS[mode](gram(cores.cores), options)).dense()


def random_update(rank: int, seed: int, scale: float = 1.0) -> LowRank:
    """Factors of quarters: float32 multiplies and adds them without rounding."""
    generator = torch.Generator().manual_seed(seed)
    b = torch.randint(-9, 10, (SHAPE[0], rank), generator=generator) / 4
    a = torch.randint(-9, 10, (rank, SHAPE[1]), generator=generator) / 4
    return LowRank(b, a, scale)


def negative(update: LowRank) -> LowRank:
    return LowRank(-update.b, update.a, update.scale)


def matrix(update: LowRank | None) -> np.ndarray:
    if update is None:
        return np.zeros(SHAPE)
    return update.scale * update.b.numpy().astype(float) @ update.a.numpy().astype(float)


def slow_trim(values: list[float], density: float) -> list[float]:
    order = sorted(range(len(values)), key=lambda index: (-abs(values[index]), index))
    kept = set(order[: math.floor(density * len(values))])
    return [value if index in kept else 0.0 for index, value in enumerate(values)]


def slow_ties(deltas: Sequence[np.ndarray], options: Options) -> np.ndarray:
    trimmed = [slow_trim(delta.ravel().tolist(), options.density) for delta in deltas]
    merged = []
    for entries in zip(*trimmed, strict=True):
        mass = sum(w * entry for w, entry in zip(options.weights, entries, strict=True))
        agreeing = [
            (w, entry)
            for w, entry in zip(options.weights, entries, strict=True)
            if mass * entry > 0
        ]
        weight = sum(w for w, _ in agreeing)
        merged.append(options.lam * sum(w * e for w, e in agreeing) / weight if weight else 0.0)
    return np.array(merged).reshape(deltas[0].shape)


def coefficients(mode: str, rows: list[list[float]], **given: float) -> list[float]:
    table = torch.tensor(rows, dtype=torch.float64)
    return COEFFICIENTS[mode](table, default_options(mode, len(rows), **given))


def trimmed(values: list[float], density: float) -> list[float]:
    delta = torch.tensor(values)
    trim_(delta, density)
    return delta.tolist()


def ties_by_hand(options: Options) -> list[float]:
    """Six entries that each meet another case: agree, outvote, lone, cancel, absent, outvote."""
    first = torch.tensor([[1.0, 4.0, 2.0, 3.0, 0.0, 1.0]])
    second = torch.tensor([[3.0, -1.0, 0.0, -3.0, 0.0, -2.0]])
    return DENSE["ties"]([first, second], options, ())[0].tolist()


def dropped(mode: str, first: float, second: float, **given: float) -> list[float]:
    deltas = [torch.full((100, 100), first), torch.full((100, 100), second)]
    options = default_options(mode, 2, **given)
    seeds = [mask_seed(3, "layer", index) for index in range(2)]
    return DENSE[mode](deltas, options, seeds).flatten().tolist()


def assert_shares(values: list[float], expected: dict[float, float]) -> None:
    """Each value occurs, and no other, about as often as it should (10,000 draws: 0.02 is 4 s)."""
    assert set(values) == set(expected)
    for value, share in expected.items():
        assert values.count(value) / len(values) == pytest.approx(share, abs=0.02)


def evenly_factored(update: LowRank) -> tuple[np.ndarray, np.ndarray]:
    u, s, vh = np.linalg.svd(matrix(update))
    root = np.sqrt(s[: update.rank])
    return u[:, : update.rank] * root, vh[: update.rank].T * root


def slow_tsv(updates: Sequence[LowRank], num_triples: Sequence[int]) -> np.ndarray:
    """TSV-M in the full space, with so many triples of each update and the guarded polar step."""
    lefts, values, rights = [], [], []
    for update, count in zip(updates, num_triples, strict=True):
        u, s, vh = np.linalg.svd(matrix(update))
        lefts.append(u[:, :count])
        values.append(s[:count])
        rights.append(vh[:count].T)
    factors = []
    for stacked in (np.hstack(lefts), np.hstack(rights)):
        p, sigma, qh = np.linalg.svd(stacked, full_matrices=False)
        factors.append(
            sum(np.outer(p[:, i], qh[i]) for i, x in enumerate(sigma) if x >= 0.2 * sigma[0])
        )
    return factors[0] @ np.diag(np.concatenate(values)) @ factors[1].T


DETERMINISTIC = [mode for mode in MODES if not mode.startswith("dare")]
