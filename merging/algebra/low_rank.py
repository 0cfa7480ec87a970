"""The update of one linear layer by one adapter, as the two factors it is stored in."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The update `scale * b @ a` of one module, https://arxiv.org/abs/2106.09685 section 4.1.

    Attributes:
        b: (d_out, r) float32, "up".
        a: (r, d_in) float32, "down".
        scale: alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA.
    """

    b: Tensor
    a: Tensor
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Return (d_out, d_in), the shape of the layer's weight."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int:
        """Return the number of columns of b and rows of a."""
        return self.b.shape[1]

    def dense(self) -> Tensor:
        """Return the update as a new (d_out, d_in) float32 matrix."""
        # numpy asks for memory in large pages, which torch does not: less than half the time
        out = torch.from_numpy(np.empty(self.shape, dtype=np.float32))
        return torch.matmul(self.scale * self.b.float(), self.a.float(), out=out)

    def rows(self, rows: slice) -> Tensor:
        """Return some rows of the update as a new float32 matrix."""
        return (self.scale * self.b[rows].float()) @ self.a.float()
