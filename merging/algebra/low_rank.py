"""The update of one linear layer by one adapter, as the two factors it is stored in."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

_BLOCK = 1 << 20  # entries multiplied at a time


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
        return (self.scale * self.b.float()) @ self.a.float()

    def parts(self) -> Iterator[Tensor]:
        """Yield the matrix of `dense`, some rows at a time."""
        num_rows = max(1, _BLOCK // self.a.shape[1])
        for b in (self.scale * self.b.float()).split(num_rows):
            yield b @ self.a.float()

    def inner_product(self, delta: Tensor) -> float:
        """Return the sum of products of the update's entries with those of `delta` (d_out, d_in).

        The update is never formed: <s B A, D> = s <A, B^T D>.
        """
        projected = self.b.float().T @ delta
        return self.scale * float((projected.double() * self.a).sum())
