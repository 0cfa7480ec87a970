"""Sums that are rounded once on their way to a file, and NF4 and back."""

import math
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

# Values worked on at a time: they stay in the cache, and sums keep six digits.
_BLOCK = 1 << 16
_NF4_BLOCKSIZE = 64


@dataclass(frozen=True, slots=True)
class Rounding:
    """The loss of one tensor's update by rounding to the dtype on disk.

    Attributes:
        update: Frobenius norm of the update.
        lost: of (rounded - exact).
    """

    update: float
    lost: float

    @property
    def loss(self) -> float:
        """Return the share of the update that is lost."""
        return self.lost / self.update


def nf4_round_trip(weight: Tensor) -> Tensor:
    """Return a float32 matrix after bitsandbytes' NF4 with double quantisation and back."""
    import bitsandbytes.functional as bnb

    data, state = bnb.quantize_4bit(
        weight, blocksize=_NF4_BLOCKSIZE, compress_statistics=True, quant_type="nf4"
    )
    # The blocks run over the flattened matrix. On a CPU the kernel takes a row for a whole number
    # of blocks, which one long row is and rows of other widths are not (models/quantization.py).
    state.shape = torch.Size([weight.numel()])
    back: Tensor = bnb.dequantize_4bit(data, state)
    return back.view(weight.shape)


def write_sum(
    target: BinaryIO,
    value: Tensor,
    update: Tensor | None,
    replaced: Tensor | None,
    dtype: torch.dtype,
) -> Rounding:
    """Write value + update in `dtype`, block by block.

    Where the value stands in for a `replaced` one, all that changes counts as update.
    """
    squares_lost = squares_update = 0.0
    value = value.reshape(-1)
    update = None if update is None else update.reshape(-1)
    replaced = None if replaced is None else replaced.reshape(-1)
    for start in range(0, value.numel(), _BLOCK):
        block = slice(start, start + _BLOCK)
        exact = value[block].float()
        if update is not None:
            exact = exact + update[block]
        rounded = exact.to(dtype)
        target.write(rounded.view(torch.uint8).numpy().data)
        squares_lost += _square(rounded.float() - exact)
        if replaced is not None:
            squares_update += _square(exact - replaced[block].float())
        elif update is not None:
            squares_update += _square(update[block])
    return Rounding(math.sqrt(squares_update), math.sqrt(squares_lost))


def _square(block: Tensor) -> float:
    return float(block @ block)
