"""One module of a merge: every adapter's update of it, in their common basis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from merging.algebra.adapters import Adapter
from merging.algebra.core import decompose
from merging.algebra.low_rank import LowRank
from merging.algebra.threads import side_by_side


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """One module of a merge.

    Attributes:
        name: canonical.
        updates: one per adapter; None where it does not have the module.
        magnitudes: DoRA's, (d_out,), one per adapter; None where it has none here.
        cores: (N, R', R'') float64, the low-rank updates in their common basis. The basis itself
            is worked out again where it is needed: all modules' are several times the adapters.
    """

    name: str
    updates: tuple[LowRank | None, ...]
    magnitudes: tuple[Tensor | None, ...]
    cores: Tensor

    @property
    def is_there(self) -> list[bool]:
        """Return for each adapter True where it has the module."""
        return [update is not None for update in self.updates]

    @property
    def has_dora(self) -> bool:
        """Return True where some update is more than low rank."""
        return any(magnitude is not None for magnitude in self.magnitudes)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (d_out, d_in)."""
        return next(update.shape for update in self.updates if update is not None)


def make_modules(adapters: Sequence[Adapter], factors: Sequence[float]) -> dict[str, Module]:
    """Return the modules of the adapters by name, each update scaled by its adapter's factor."""

    def make(name: str) -> Module:
        updates = tuple(
            None if update is None else replace(update, scale=factor * update.scale)
            for adapter, factor in zip(adapters, factors, strict=True)
            for update in [adapter.updates.get(name)]
        )
        shape = next(update.shape for update in updates if update is not None)
        magnitudes = tuple(adapter.dora.get(name) for adapter in adapters)
        return Module(name, updates, magnitudes, decompose(updates, shape).cores)

    names = sorted({name for adapter in adapters for name in adapter.updates})
    return dict(zip(names, side_by_side(make, names), strict=True))
