"""A merged model, written tensor by tensor over its base's safetensors shards.

What no update touches is passed byte for byte. An update is added in float32 and rounded once; what
that rounding costs is reported. The folder appears whole or not at all.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from common.json_files import write_json
from merging.algebra.base import COMPANIONS, Base
from merging.algebra.rounding import Rounding, nf4_round_trip, write_sum
from merging.algebra.staging import atomic_folder
from merging.algebra.stored_tensors import FLOAT_DTYPES, Shard, StoredTensor
from models.whole_weights import INDEX

SaveDtype = Literal["auto", "float32", "bfloat16"]
Onto = Literal["original", "nf4"]

_SPELLED = {"float32": "F32", "bfloat16": "BF16"}


@dataclass(slots=True)
class ExportReport:
    """The record of an export.

    Attributes:
        rounding: canonical tensor name -> what rounding cost it; for the tensors with an update
            that is not all zero.
        bytes_read: of weights.
    """

    rounding: dict[str, Rounding] = field(default_factory=dict)
    bytes_read: int = 0


def export_full(
    base: Base,
    out: Path,
    delta: Callable[[str], Tensor | None],
    *,
    save_dtype: SaveDtype = "auto",
    onto: Onto = "original",
    replace: Mapping[str, Tensor] = {},
    finish: Callable[[Path, ExportReport], None] | None = None,
) -> ExportReport:
    """Write base + updates as a full model: the base's shards, config, tokenizer and processor.

    Peak memory is a few times the largest tensor, whatever the size of a shard.

    Args:
        base: an unquantised model.
        out: the new folder. A temporary one stands beside it until all is written.
        delta: canonical module name -> its update, (d_out, d_in) float32 on the CPU, or None.
            Asked once for each matrix of the base, in the order of the files.
        save_dtype: of all floating-point tensors; `auto` leaves each its own.
        onto: what the updates are added to: the base's weights, or those after NF4 (blocks of
            64, double quantisation) and back, as QLoRA training saw them (Dettmers et al. 2023,
            arXiv:2305.14314, section 3). The latter reaches every linear layer that training
            quantises, those without an update too.
        replace: canonical tensor name -> the values that stand in for the base's, float32. For
            biases and `modules_to_save`; who holds a difference adds it to
            `base.tensors[name].read()`. An update of `delta` comes on top.
        finish: given the folder before it takes its name, to add files, and the report.

    Raises:
        ValueError: the base is quantised, not whole or of unknown kind; `out` exists and is not
            empty; an update fits no tensor, is of another shape, is of a tied layer, or is not
            finite in the dtype on disk; the base has NaN or Inf; or the disk is too small. Nothing
            is left at `out`.
    """
    base.check_unquantized()
    check_tied(base, _changed(base, delta, replace))
    _check_replaced(base, replace)
    through_nf4 = base.quantized_in_training() if onto == "nf4" else frozenset()
    writer = _TensorWriter(base, delta, replace, through_nf4, save_dtype)
    report = writer.report
    headers = [_header(shard, save_dtype) for shard in base.shards]
    with atomic_folder(out) as folder:
        _check_room(folder, sum(size for _, size in headers))
        for shard, (header, _) in zip(base.shards, headers, strict=True):
            path = folder / shard.path.name
            with _synced(path) as target, _synced_early(target) as begin_to_sync:
                target.write(header)
                for tensor in shard.tensors:
                    writer.write(tensor, target)
                    begin_to_sync()
            report.bytes_read += shard.path.stat().st_size
        _write_companions(base, folder, save_dtype)
        if base.index is not None:
            data = sum(size - len(header) for header, size in headers)
            metadata = {**base.index.get("metadata", {}), "total_size": data}
            write_json(folder / INDEX, {**base.index, "metadata": metadata})
        if finish is not None:
            finish(folder, report)
    return report


@dataclass(frozen=True, slots=True)
class _TensorWriter:
    """Writes the base's tensors with their updates; fields as the arguments of `export_full`."""

    base: Base
    delta: Callable[[str], Tensor | None]
    replace: Mapping[str, Tensor]
    through_nf4: frozenset[str]
    save_dtype: SaveDtype
    report: ExportReport = field(default_factory=ExportReport)

    def write(self, tensor: StoredTensor, target: BinaryIO) -> None:
        """Write one tensor, unchanged where nothing changes it."""
        is_untied = not (self.base.is_tied and _is_tied_module(tensor.module))
        update = self.delta(tensor.module) if tensor.is_matrix and is_untied else None
        replacement = self.replace.get(tensor.name)
        is_through_nf4 = tensor.is_matrix and tensor.module in self.through_nf4
        dtype = _saved_dtype(tensor, self.save_dtype)
        is_changed = update is not None or replacement is not None or is_through_nf4
        if not is_changed and dtype == tensor.dtype:
            for values in tensor.chunks():
                tensor.check_finite(values)
                target.write(values.view(torch.uint8).numpy().data)
            return
        _check_update(self.base, tensor, update, replacement)
        weight = tensor.read()
        tensor.check_finite(weight)
        if replacement is not None:
            rounding = write_sum(target, replacement, update, weight, FLOAT_DTYPES[dtype])
        else:
            start = nf4_round_trip(weight.float()) if is_through_nf4 else weight
            rounding = write_sum(target, start, update, None, FLOAT_DTYPES[dtype])
        if not math.isfinite(rounding.lost + rounding.update):
            what = f"{tensor.name} with its update" if is_changed else tensor.stored_name
            raise ValueError(
                f"{what} has NaN or values beyond {dtype}; pass --save_dtype float32, or smaller "
                "--weights or --lambda, or check the adapter."
            )
        if rounding.update:
            self.report.rounding[tensor.name] = rounding


def _is_tied_module(module: str) -> bool:
    return module == "lm_head" or module.endswith("embed_tokens")


def _changed(
    base: Base, delta: Callable[[str], Tensor | None], replace: Mapping[str, Tensor]
) -> set[str]:
    """Modules whose weights are replaced, and those of a tied base's two that have an update."""
    modules = {tensor.module for tensor in base.tensors.values()} | {"lm_head"}
    tied = filter(_is_tied_module, modules if base.is_tied else ())
    replaced = {name.removesuffix(".weight") for name in replace}
    return replaced.union(name for name in tied if delta(name) is not None)


def check_tied(base: Base, modules: Iterable[str]) -> None:
    """Refuse to write updates of one of two layers that share their weights.

    Args:
        base: a full model.
        modules: canonical names of those with updates or whole tensors.

    Raises:
        ValueError: one is lm_head or embed_tokens, and the base ties them.
    """
    for module in sorted(filter(_is_tied_module, modules)):
        if base.is_tied:
            raise ValueError(
                f"The update of {module} cannot be exported: {base.name} ties lm_head to "
                "embed_tokens, so that it would change both; leave that module out."
            )


def _check_replaced(base: Base, replace: Mapping[str, Tensor]) -> None:
    for name in replace:
        if name not in base.tensors:
            raise ValueError(
                f"{base.name} has no tensor {name} whose values could be replaced; leave that "
                "module out, or pass the base that the adapter was trained on."
            )


def _check_update(base: Base, tensor: StoredTensor, *updates: Tensor | None) -> None:
    if not tensor.is_float:
        raise ValueError(
            f"{tensor.name} of {base.name} is stored as {tensor.dtype} and a full export needs the "
            "unquantised base; pass that, or export an adapter."
        )
    for update in updates:
        if update is not None and tuple(update.shape) != tensor.shape:
            raise ValueError(
                f"The update of {tensor.name} has shape {tuple(update.shape)}, the base's is "
                f"{tensor.shape}; pass the base that the adapter was trained on."
            )


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ValueError(
            f"The full model takes {size / 1e9:.2f} GB and {folder.parent} has {free / 1e9:.2f} GB "
            "left; make room, or pass another output folder."
        )


def _saved_dtype(tensor: StoredTensor, save_dtype: SaveDtype) -> str:
    return _SPELLED[save_dtype] if save_dtype != "auto" and tensor.is_float else tensor.dtype


def _header(shard: Shard, save_dtype: SaveDtype) -> tuple[bytes, int]:
    """The bytes before the data, and the size of the whole file."""
    entries: dict[str, Any] = {} if shard.metadata is None else {"__metadata__": shard.metadata}
    end = 0
    for tensor in shard.tensors:
        dtype = _saved_dtype(tensor, save_dtype)
        start = end
        if dtype == tensor.dtype:
            end += tensor.num_bytes
        else:
            end += math.prod(tensor.shape) * FLOAT_DTYPES[dtype].itemsize
        entries[tensor.stored_name] = {
            "dtype": dtype,
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, len(header) + end


def _write_companions(base: Base, folder: Path, save_dtype: SaveDtype) -> None:
    for name in ("config.json", *COMPANIONS):
        if (base.folder / name).is_file():
            with _synced(folder / name) as target:
                target.write((base.folder / name).read_bytes())
    if save_dtype != "auto":
        write_json(folder / "config.json", _with_dtype(base.config, save_dtype))


def _with_dtype(config: Mapping[str, Any], save_dtype: str) -> dict[str, Any]:
    """The config with all weights declared to be of this dtype, those of its parts included."""
    changed: dict[str, Any] = {"torch_dtype" if "torch_dtype" in config else "dtype": save_dtype}
    for key, value in config.items():
        if isinstance(value, dict) and ("dtype" in value or "torch_dtype" in value):
            changed[key] = _with_dtype(value, save_dtype)
    return {**config, **changed}


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())  # the folder's new name may outlive a power cut otherwise


@contextmanager
def _synced_early(file: BinaryIO) -> Iterator[Callable[[], None]]:
    """Give a call that begins to sync a file while more is worked out: the end waits for little."""
    with ThreadPoolExecutor(1) as pool:
        begun: list[Future[None]] = []
        yield lambda: begun.append(pool.submit(os.fsync, file.fileno()))
        for future in begun:
            future.result()  # a broken disk is reported once, maybe here
