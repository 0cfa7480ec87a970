"""The rules of the menu, in three tables by what a rule needs to see.

`COEFFICIENTS` weigh whole adapters and see their inner products alone, `CORE` works on the small
matrices of `merging.algebra.core`, `DENSE` on the updates entry by entry. Every rule is closed
form, works on updates (never on A and B apart) and lets an adapter without the module count as
zero there.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from merging.algebra.core import cosines, numerical_svd
from merging.algebra.modes import Options
from merging.algebra.threads import side_by_side
from merging.algebra.thresholds import keep_from_

# Adapters nearer than this in |cosine| are joined by a line: the arc's formula divides by a sine.
_LINE_COSINE = 0.9995
# Directions in which the stacked singular vectors of near copies all but cancel are no directions.
_POLAR_TOLERANCE = 0.2
# Entries worked on at a time: what is made on the way stays in the cache, and torch starts no
# threads. Its threads wait for one another after each operation: on a busy machine for good.
_BLOCK = 1 << 15


# Rules for whole adapters: from the Gram matrix of all updates to one coefficient per adapter.


def _linear(gram: Tensor, options: Options) -> list[float]:
    """Task arithmetic, https://arxiv.org/abs/2212.04089: c_i = lam w_i."""
    return [options.lam * weight for weight in options.weights]


def _balanced(gram: Tensor, options: Options) -> list[float]:
    """c_i = lam / sum_j |cos(D_i, D_j)|: the sum of orthogonal adapters, the average of copies.

    Our own rule. An adapter of zero has no direction and is orthogonal to all others.
    """
    sums = cosines(gram).abs().fill_diagonal_(1).sum(dim=1)
    coefficients: list[float] = (options.lam / sums).tolist()
    return coefficients


def _slerp(gram: Tensor, options: Options) -> list[float]:
    """Go along the arc between the updates as vectors, https://doi.org/10.1145/325334.325242.

    Nearly parallel, opposite and zero updates are joined by the line instead.
    """
    cosine = float(cosines(gram)[0, 1])
    first, second = 1 - options.t, options.t
    if abs(cosine) <= _LINE_COSINE and gram.diagonal().min() > 0:
        angle = math.acos(cosine)
        first, second = (math.sin(share * angle) / math.sin(angle) for share in (first, second))
    return [options.lam * first, options.lam * second]


# Rules for the cores of one module: from (N, R', R'') to the merged core (R', R'').


class CoreMerge(Protocol):
    """A rule on the cores of one module.

    `side` is the smaller of the module's d_out and d_in, where the rule is to know it.
    """

    def __call__(self, cores: Tensor, options: Options, side: int | None = None) -> Tensor:
        """Return the merged core."""


def _core_ties(cores: Tensor, options: Options, side: int | None = None) -> Tensor:
    """Ties with the cores' entries for the updates' own."""
    return _ties([core.clone() for core in cores], options, ())


def _tsv(cores: Tensor, options: Options, side: int | None = None) -> Tensor:
    """TSV-M, https://arxiv.org/abs/2412.00081 algorithm 1: decorrelate the singular vectors.

    All adapters' left singular vectors side by side are replaced by the nearest orthonormal
    factor, the right ones likewise, and joined again with the singular values as they were. Two
    things differ from the paper. Each adapter gives the triples of its numerical rank: the paper's
    share of the full rank is, for an adapter, mostly arbitrary null vectors. And the orthonormal
    factor leaves out directions below 0.2 of the strongest, which blow up the small differences
    between similar adapters. Where the triples are more than the module has rows or columns
    (`side`), each adapter gives its part of these, rounded down.
    """
    triples = [numerical_svd(core) for core in cores]
    limit = max(len(s) for _, s, _ in triples)
    if side is not None and sum(len(s) for _, s, _ in triples) > side:
        limit = side // len(cores)
    u = torch.cat([u[:, :limit] for u, _, _ in triples], dim=1)
    s = torch.cat([s[:limit] for _, s, _ in triples])
    v = torch.cat([v[:, :limit] for _, _, v in triples], dim=1)
    return options.lam * (_orthonormal_factor(u) * s) @ _orthonormal_factor(v).T


def _orthonormal_factor(matrix: Tensor) -> Tensor:
    """Return the orthonormal polar factor of the matrix's strong directions."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    strong = s >= _POLAR_TOLERANCE * s[:1]
    factor: Tensor = u[:, strong] @ vh[strong]
    return factor


# Rules for the entries of one module: from N dense updates, overwritten, to the merged one.


def _ties(deltas: list[Tensor], options: Options, seeds: Sequence[int]) -> Tensor:
    """TIES, https://arxiv.org/abs/2306.01708 section 4: trim each, elect signs, disjoint mean."""
    side_by_side(partial(trim_, density=options.density), deltas)
    return _disjoint_mean_(deltas, options)


def _dare_ties(deltas: list[Tensor], options: Options, seeds: Sequence[int]) -> Tensor:
    """DARE's random dropping in place of the trimming of TIES."""
    side_by_side(partial(_drop_, options.density), deltas, seeds)
    return _disjoint_mean_(deltas, options)


def _dare_linear(deltas: list[Tensor], options: Options, seeds: Sequence[int]) -> Tensor:
    """DARE, https://arxiv.org/abs/2311.03099: drop at random, rescale, then task arithmetic."""
    side_by_side(partial(_drop_, options.density), deltas, seeds)
    return _weighted_sum_(deltas, options)


def _magnitude_prune(deltas: list[Tensor], options: Options, seeds: Sequence[int]) -> Tensor:
    """Trim each update as TIES does, then task arithmetic."""
    side_by_side(partial(trim_, density=options.density), deltas)
    return _weighted_sum_(deltas, options)


def num_kept(numel: int, density: float) -> int:
    """Return how many of a tensor's entries trimming keeps: floor(density * numel), even 0."""
    return math.floor(density * numel)


def trim_(delta: Tensor, density: float) -> None:
    """Set all but the `num_kept` entries of largest magnitude to zero, in place.

    Among entries of equal magnitude those of the lowest flat index stay.
    """
    values = delta.view(-1).numpy()  # whose selection takes a tenth of torch.kthvalue's time
    num_dropped = values.size - num_kept(values.size, density)
    if num_dropped == 0:
        return
    if num_dropped == values.size:
        values.fill(0)
        return
    magnitudes = np.abs(values)
    magnitudes.partition(num_dropped)  # in place
    threshold = float(magnitudes[num_dropped])
    num_spare = np.count_nonzero(magnitudes[:num_dropped] == threshold)
    keep_from_(delta, threshold)
    if num_spare and threshold:
        equal = np.flatnonzero((values == threshold) | (values == -threshold))
        values[equal[-num_spare:]] = 0


def _drop_(density: float, delta: Tensor, seed: int) -> None:
    """Keep each entry with probability `density` and divide by it, drop the others, in place."""
    generator = torch.Generator().manual_seed(seed)
    density = max(density, torch.finfo(delta.dtype).tiny)  # of a smaller one the inverse is Inf
    for block in delta.view(-1).split(_BLOCK):
        is_kept = torch.rand(len(block), generator=generator).lt_(density)
        block.mul_(is_kept).mul_(1 / density)


def _disjoint_mean_(deltas: list[Tensor], options: Options) -> Tensor:
    """Elect a sign per entry by weighted mass; average the entries that have it; into the first.

    A mass of exactly 0 elects 0, and the merged entry is 0. Sums are in float64.
    """
    least_weight = min(weight for weight in options.weights if weight > 0)

    def merge_block(*blocks: Tensor) -> None:
        masses = [
            block.double().mul_(weight)
            for weight, block in zip(options.weights, blocks, strict=True)
        ]
        elected = torch.zeros_like(masses[0])
        for mass in masses:
            elected.add_(mass)
        elected.sign_()
        total = torch.zeros_like(elected)
        total_weight = torch.zeros_like(elected)
        for weight, mass in zip(options.weights, masses, strict=True):
            agreeing = mass.mul_(elected).clamp_(min=0)
            total.add_(agreeing)
            total_weight.add_(agreeing.sign_(), alpha=weight)
        # Nobody of any weight agrees only where 0 is elected, and there the total is 0.
        total_weight.clamp_(min=least_weight)
        blocks[0].copy_(total.div_(total_weight).mul_(elected).mul_(options.lam))

    side_by_side(merge_block, *(delta.view(-1).split(_BLOCK) for delta in deltas))
    return deltas[0]


def _weighted_sum_(deltas: list[Tensor], options: Options) -> Tensor:
    """Return sum lam w_i D_i, into the first."""
    merged = deltas[0].mul_(options.lam * options.weights[0])
    for delta, weight in zip(deltas[1:], options.weights[1:], strict=True):
        merged.add_(delta, alpha=options.lam * weight)
    return merged


def mask_seed(seed: int, module_name: str, adapter_index: int) -> int:
    """Return the seed of one adapter's mask in one module, whatever is merged before or beside."""
    text = f"{seed}/{module_name}/{adapter_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


COEFFICIENTS: dict[str, Callable[[Tensor, Options], list[float]]] = {
    "auto": _linear,  # where no score is at hand the average kept most (benchmarks/README.md)
    "linear": _linear,
    "balanced": _balanced,
    "slerp": _slerp,
}
CORE: dict[str, CoreMerge] = {"core_ties": _core_ties, "tsv": _tsv}
# The tensors are overwritten, and one of them holds the result; seeds are one per adapter, from
# `mask_seed`, for the dare modes.
DENSE: dict[str, Callable[[list[Tensor], Options, Sequence[int]], Tensor]] = {
    "ties": _ties,
    "dare_linear": _dare_linear,
    "dare_ties": _dare_ties,
    "magnitude_prune": _magnitude_prune,
}
