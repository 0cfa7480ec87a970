"""A merge carried out: as an adapter, as a full model, or as the figures alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merging.algebra.adapters import Adapter
from merging.algebra.base import Base
from merging.algebra.full_model import ExportReport, Onto, SaveDtype, check_tied, export_full
from merging.algebra.merge import Merge
from merging.algebra.modes import RankLimit
from merging.algebra.threads import one_thread
from merging.algebra.writer import verify_adapter, write_adapter

Progress = Callable[[str], None]  # told of each module as it is done
Measures = dict[str, dict[str, Any]]  # module name -> what the report says of it


@one_thread()
def diagnose(merge: Merge, progress: Progress) -> Measures:
    """Work out the merge and write nothing."""
    measures = {}
    for name in merge.modules:
        merged = None if merge.is_low_rank else merge.dense(name)
        measures[name] = merge.measure(name, merged)
        progress(name)
    return measures


@one_thread()
def export_adapter(
    merge: Merge, base: Base, out: Path, rank: RankLimit, dtype: SaveDtype, progress: Progress
) -> Measures:
    """Write the merge as an adapter, and read it back.

    Args:
        merge: what to write.
        base: what the adapter is of.
        out: the folder.
        rank: of each module at most, or the energy share to reach, or all of it.
        dtype: of the tensors; `auto` is float32.
        progress: told of each module.
    """
    measures: Measures = {}
    updates = {}
    for name in merge.modules:
        updates[name], energy_kept = merge.low_rank(name, rank)
        merged = None if merge.is_low_rank else updates[name].dense()
        row = merge.measure(name, merged)
        measures[name] = row | {"rank": updates[name].rank, "energy_kept": energy_kept}
        progress(name)
    torch_dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    name = str(base.local.resolve()) if base.local else base.name
    write_adapter(out, updates, name, base.revision, torch_dtype)
    verify_adapter(out, updates, 1e-2 if dtype == "bfloat16" else 1e-6)
    return measures


@one_thread()
def export_model(
    merge: Merge,
    adapters: Sequence[Adapter],
    base: Base,
    out: Path,
    save_dtype: SaveDtype,
    onto: Onto,
    progress: Progress,
    finish: Callable[[Path, Measures, ExportReport], None],
) -> None:
    """Write base + merge as a full model.

    Args:
        merge: what is added.
        adapters: for what they hold beside low-rank updates.
        base: what it is added to.
        out: the new folder.
        save_dtype: of the weights; `auto` is each its own.
        onto: the base's weights as they are, or as 4-bit training saw them.
        progress: told of each module.
        finish: given the folder before it takes its name, the figures of each module, and what
            the export cost; adds files.
    """
    measures: Measures = {}

    def delta(name: str) -> Tensor | None:
        if name not in merge.modules:
            return None
        merged = merge.dense(name)
        measures[name] = merge.measure(name, merged)
        progress(name)
        return merged

    def finish_with_measures(folder: Path, report: ExportReport) -> None:
        for name in measures:
            rounding = report.rounding.get(f"{name}.weight")
            measures[name]["rounding_loss"] = rounding.loss if rounding else 0.0
        finish(folder, measures, report)

    export_full(
        base,
        out,
        delta,
        save_dtype=save_dtype,
        onto=onto,
        replace=_replaced(merge, adapters, base),
        finish=finish_with_measures,
    )


def _replaced(merge: Merge, adapters: Sequence[Adapter], base: Base) -> dict[str, Tensor]:
    """Biases and whole tensors that adapters trained: the base's plus the weighted differences."""
    held = [_beside(adapter, base) for adapter in adapters]
    check_tied(base, {name.removesuffix(".weight") for own in held for name in own})
    replaced: dict[str, Tensor] = {}
    for name in sorted({name for own in held for name in own}):
        original = replaced[name] = base.tensors[name].read().float()
        shares = merge.shares([name in own for own in held])
        for own, share in zip(held, shares, strict=True):
            if name in own:
                value, is_difference = own[name]
                difference = value.float() if is_difference else value.float() - original
                replaced[name] = replaced[name] + share * difference
    return replaced


def _beside(adapter: Adapter, base: Base) -> dict[str, tuple[Tensor, bool]]:
    """What an adapter has beside its updates, and whether that is a difference from the base's."""
    found = {f"{module}.bias": (bias, True) for module, bias in adapter.biases.items()}
    found |= {name: (tensor, False) for name, tensor in adapter.saved.items()}
    shapes = base.shapes() if found else {}
    for name, (tensor, _) in found.items():
        stored = base.tensors.get(name)
        shape = stored.shape if stored else shapes.get(name.removesuffix(".weight"))  # tied
        if shape != tuple(tensor.shape):
            there = f"one of shape {shape}" if shape else "no such tensor"
            raise ValueError(
                f"Adapter {adapter.folder} holds {name} of shape {tuple(tensor.shape)}, and the "
                f"base has {there}; pass the base that it was trained on."
            )
    return found
