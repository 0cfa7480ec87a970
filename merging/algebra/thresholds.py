"""Trimming over a whole adapter: one threshold for all its modules, as the authors of TIES trim.

Source: https://github.com/prateeky2806/ties-merging, where the flattened update of the whole model
is trimmed. The default of this project trims each module by itself.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_HALF = 16  # bits
_BINS = 1 << _HALF
_BLOCK = 1 << 20  # entries counted at a time


def magnitude_threshold(deltas: Callable[[], Iterable[Tensor]], density: float) -> float:
    """Return the magnitude that floor(density * number of entries) entries of an adapter reach.

    Found exactly in two passes that count: magnitudes in float32 are in the order of their bits,
    of which the first pass settles the upper half and the second the lower.

    Args:
        deltas: gives the adapter's updates, float32, one module after the other; called twice.
        density: share of all entries that stay; entries equal to the threshold stay too.
    """
    upper = _histogram(deltas(), None)
    kept = math.floor(density * int(upper.sum()))
    if kept == 0:
        return math.inf
    first, above = _reached(upper, kept)
    second, _ = _reached(_histogram(deltas(), first), kept - above)
    bits = torch.tensor(first << _HALF | second, dtype=torch.int32)
    return float(bits.view(torch.float32))


def keep_from_(delta: Tensor, threshold: float) -> None:
    """Set the entries of smaller magnitude to zero, in place."""
    below = torch.tensor(threshold, dtype=delta.dtype).nextafter(torch.zeros((), dtype=delta.dtype))
    torch.hardshrink(delta, float(below), out=delta)  # in one pass, where masking takes three


def _histogram(deltas: Iterable[Tensor], upper: int | None) -> Tensor:
    """Count the entries of each upper half of bits; with `upper` given, of the lower."""
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for block in (block for delta in deltas for block in delta.view(-1).split(_BLOCK)):
        bits = block.abs().view(torch.int32)
        halves = bits >> _HALF
        if upper is not None:
            halves = bits[halves == upper] & (_BINS - 1)
        counts += torch.bincount(halves, minlength=_BINS)
    return counts


def _reached(counts: Tensor, kept: int) -> tuple[int, int]:
    """The highest bin from which on at least `kept` entries lie, and how many lie above it."""
    from_top = counts.flip(0).cumsum(0)
    place = int((from_top < kept).sum())
    above = int(from_top[place - 1]) if place else 0
    return _BINS - 1 - place, above
