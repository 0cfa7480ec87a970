"""Adapters and a mode -> the merged update of each module, and what the merge did to it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from merging.algebra.adapters import Adapter, beside_low_rank
from merging.algebra.core import cosines, decompose, gram, overlaps
from merging.algebra.dense_figures import dense_figures
from merging.algebra.factorise import concatenate, from_core, from_dense
from merging.algebra.low_rank import LowRank
from merging.algebra.methods import (
    COEFFICIENTS,
    CORE,
    DENSE,
    mask_seed,
    num_kept,
)
from merging.algebra.modes import MODES, Mode, Options, RankLimit, renormalize
from merging.algebra.module import Module, make_modules
from merging.algebra.threads import one_thread, side_by_side
from merging.algebra.thresholds import keep_from_, magnitude_threshold

ReadWeight = Callable[[str], Tensor]
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """A merge that is settled but not carried out: each module is worked out when it is asked for.

    `start_merge` makes it.

    Attributes:
        mode: a name in `MODES`.
        options: its settings.
        modules: by canonical name, sorted.
        gram: (N, N) float64 inner products of the whole adapters.
        seed: of the masks of the dare modes.
        missing: `renorm` divides by the sum of the weights of the adapters that have a module, a
            bias or a whole tensor.
        trim_scope: what a density is the share of, in `ties` and `magnitude_prune`: of each
            module's entries or of the whole adapter's.
        thresholds: per adapter, the magnitude from which trimming over the whole of it keeps.
        read_weight: the base's weight of a module, float32; for DoRA, whose update depends on it.
    """

    mode: str
    options: Options
    modules: Mapping[str, Module]
    gram: Tensor
    seed: int
    missing: Literal["zero", "renorm"]
    trim_scope: Literal["tensor", "adapter"] = "tensor"
    thresholds: tuple[float, ...] | None = None
    read_weight: ReadWeight | None = None

    @property
    def is_low_rank(self) -> bool:
        """Return True where the result is exact at the sum of the ranks; else it is dense."""
        return MODES[self.mode].kind != "dense"

    @property
    def is_weighing(self) -> bool:
        """Return True where the result is a weighted sum of whole adapters."""
        return MODES[self.mode].kind == "coefficients"

    @property
    def coefficients(self) -> list[float]:
        """Return how much of each adapter is in the sum, of a mode that weighs whole adapters."""
        return COEFFICIENTS[self.mode](self.gram, self.options)

    def shares(self, is_there: Sequence[bool]) -> list[float]:
        """Return how much of each adapter is in a tensor that is weighed whole, as a bias is.

        Where signs are elected it is the mean of those that have the tensor, else as in a module.

        Args:
            is_there: for each adapter, true where it has the tensor.
        """
        options, coefficients = self._options(is_there)
        if self.is_weighing:
            return coefficients
        held = [w for w, is_here in zip(options.weights, is_there, strict=True) if is_here]
        if MODES[self.mode].elects and any(held):
            options = renormalize(options, is_there)
        return [options.lam * weight for weight in options.weights]

    def low_rank(self, name: str, rank: RankLimit = "full") -> tuple[LowRank, float]:
        """Factorise the merged update of a module; return the share of its energy that is kept too.

        Args:
            name: of the module.
            rank: at most; or the energy share to reach; `full` is exact, for dense results the
                sum of the ranks.
        """
        module = self.modules[name]
        if not self.is_low_rank:
            total = sum(update.rank for update in module.updates if update is not None)
            return from_dense(self.dense(name), total if rank == "full" else rank)
        if rank == "full" and self.is_weighing:
            return concatenate(module.updates, self._options(module.is_there)[1]), 1.0
        cores = decompose(module.updates, module.shape)
        return from_core(cores, self._core(module, cores.cores), rank)

    def dense(self, name: str) -> Tensor:
        """Compute the merged update of a module as a (d_out, d_in) float32 matrix."""
        module = self.modules[name]
        if self.is_low_rank and not module.has_dora:
            return self.low_rank(name)[0].dense()
        options, coefficients = self._options(module.is_there)
        deltas = side_by_side(partial(self._delta, module), range(len(module.updates)))
        if self.is_weighing:
            return torch.stack([c * d for c, d in zip(coefficients, deltas, strict=True)]).sum(0)
        if self.thresholds is not None:
            for delta, threshold in zip(deltas, self.thresholds, strict=True):
                keep_from_(delta, threshold)
            options = replace(options, density=1.0)
        seeds = [mask_seed(self.seed, name, index) for index in range(len(deltas))]
        return DENSE[self.mode](deltas, options, seeds)

    def measure(self, name: str, merged: Tensor | None = None) -> dict[str, Any]:
        """Return the report's entry of a module.

        Args:
            name: of the module.
            merged: its merged update where that is at hand, (d_out, d_in); a dense result is
                otherwise left out of the figures.
        """
        module = self.modules[name]
        if module.has_dora:  # norms and angles of the low-rank part alone would mislead
            return {"dora": True}
        products = gram(module.cores)
        norms = products.diagonal().sqrt()
        left, right = overlaps(module.cores)
        measures: dict[str, Any] = {
            "ranks": [0 if update is None else update.rank for update in module.updates],
            "norms": norms.tolist(),
            "cosines": cosines(products).tolist(),
            "output_overlap": left.tolist(),
            "input_overlap": right.tolist(),
        }
        if MODES[self.mode].trims and self.thresholds is None:
            numel = math.prod(module.shape)
            measures["kept_share"] = num_kept(numel, self.options.density) / numel
        if self.is_low_rank:
            core = self._core(module, module.cores)
            inner = torch.einsum("ij,nij->n", core, module.cores)
            measures["merged_norm"] = float(core.norm())
            measures["retention"] = _shares(inner, products.diagonal())
        elif merged is not None:
            figures = dense_figures(module.updates, merged)
            measures["merged_norm"] = math.sqrt(figures.energy)
            measures["retention"] = _shares(figures.inner, products.diagonal())
            measures["sign_conflict"] = figures.sign_conflict
        return measures

    def updates_of(self, index: int) -> Iterator[Tensor]:
        """Yield an adapter's updates, (d_out, d_in) float32, of the modules that it has."""
        for module in self.modules.values():
            if module.updates[index] is not None:
                yield self._delta(module, index)

    def _delta(self, module: Module, index: int) -> Tensor:
        """Return a copy of an adapter's update of a module."""
        update, magnitude = module.updates[index], module.magnitudes[index]
        delta = torch.zeros(module.shape) if update is None else update.dense()
        if magnitude is None:
            return delta
        assert self.read_weight is not None, "start_merge asks for it where there is DoRA"
        weight = self.read_weight(module.name)
        adapted = weight + delta
        updated: Tensor = (magnitude / adapted.norm(dim=1))[:, None] * adapted
        return updated - weight

    def _core(self, module: Module, cores: Tensor) -> Tensor:
        """The merged core of a mode whose result lies in the adapters' common space."""
        options, coefficients = self._options(module.is_there)
        if self.mode in CORE:
            return CORE[self.mode](cores, options, min(module.shape))
        weights = torch.tensor(coefficients, dtype=torch.float64)
        return torch.einsum("n,nij->ij", weights, cores)

    def _options(self, is_there: Sequence[bool]) -> tuple[Options, list[float]]:
        """The settings for what these adapters have, and the coefficients of a mode with them."""
        options = self.options
        is_weighted = MODES[self.mode].weights is not None
        if self.missing == "renorm" and is_weighted and not all(is_there):
            options = renormalize(options, is_there)
        if not self.is_weighing:
            return options, []
        return options, COEFFICIENTS[self.mode](self.gram, options)


@one_thread()
def start_merge(
    adapters: Sequence[Adapter],
    mode: str,
    options: Options,
    *,
    seed: int = 0,
    missing: Literal["zero", "renorm"] = "zero",
    trim_scope: Literal["tensor", "adapter"] = "tensor",
    normalize: bool = False,
    read_weight: ReadWeight | None = None,
) -> Merge:
    """Bring the updates of each module into their common basis and take the adapters' measure.

    Args:
        adapters: of one base.
        mode: a name in `MODES`.
        options: its settings, by `default_options`.
        seed: of the masks of the dare modes.
        missing: how an adapter without a module counts there: as an update of zero, or not at all.
        trim_scope: as in Merge.
        normalize: scale each adapter to the mean norm of all first.
        read_weight: as in Merge.

    Raises:
        ValueError: DoRA with a mode that needs norms or cores of low-rank updates, updates that
            are or become too large for float32, or an adapter that is to be scaled and is zero or
            has more than low-rank updates.
    """
    for adapter in adapters if normalize else ():
        if more := beside_low_rank(adapter):
            raise ValueError(
                f"--normalize scales low-rank updates alone, and adapter {adapter.folder} {more}; "
                "leave it out."
            )
    modules = make_modules(adapters, [1.0] * len(adapters))
    total = _total_gram(modules)
    norms = total.diagonal().sqrt()
    for adapter, norm in zip(adapters, norms.tolist(), strict=True):
        if not norm <= _LARGEST:
            raise ValueError(
                f"Adapter {adapter.folder} has updates of norm {norm:.1e}, and float32 ends at "
                f"{_LARGEST:.1e}: its training diverged or its lora_alpha is wrong; take another."
            )
    if normalize:
        if not norms.all():
            raise ValueError("--normalize cannot scale an adapter that is zero; leave it out.")
        modules = make_modules(adapters, (norms.mean() / norms).tolist())
        total = _total_gram(modules)
    merge = Merge(mode, options, modules, total, seed, missing, trim_scope, read_weight=read_weight)
    return with_mode(merge, mode, options)


def with_mode(merge: Merge, mode: str, options: Options) -> Merge:
    """Return the same adapters merged in another way.

    Raises:
        ValueError: DoRA with a mode that needs norms or cores of low-rank updates, or settings
            that scale updates beyond float32.
    """
    if not MODES[mode].takes_dora and any(module.has_dora for module in merge.modules.values()):
        raise ValueError(
            f"An adapter uses DoRA, whose update is not low rank, and --mode {mode} takes low-rank "
            f"ones: use one of {', '.join(row.name for row in MODES.values() if row.takes_dora)}."
        )
    _check_scale(merge.gram, MODES[mode], options)
    merge = replace(merge, mode=mode, options=options, thresholds=None)
    if merge.trim_scope == "tensor" or not MODES[mode].trims:
        return merge
    thresholds = [
        magnitude_threshold(partial(merge.updates_of, index), options.density)
        for index in range(len(merge.gram))
    ]
    return replace(merge, thresholds=tuple(thresholds))


def _check_scale(gram: Tensor, mode: Mode, options: Options) -> None:
    """Refuse numbers by which updates, or whole tensors of whatever norm, leave float32."""
    norm = max(1.0, float(gram.diagonal().max().sqrt()))
    if not abs(options.lam) * max(map(abs, options.weights)) * norm <= _LARGEST:
        weights = f"--weights {','.join(map(str, options.weights))} and " if mode.weights else ""
        raise ValueError(
            f"{weights}--lambda {options.lam} scale updates beyond {_LARGEST:.1e}, where float32 "
            "ends; pass smaller numbers."
        )


def _total_gram(modules: Mapping[str, Module]) -> Tensor:
    return torch.stack([gram(module.cores) for module in modules.values()]).sum(dim=0)


def _shares(inner: Iterable[float | Tensor], squares: Tensor) -> list[float | None]:
    """<merged, D_i> / |D_i|^2; None of an adapter that is zero in this module."""
    return [
        float(product / square) if square else None
        for product, square in zip(inner, squares, strict=True)
    ]
