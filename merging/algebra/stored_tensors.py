"""The tensors of a model's files: where each lies, read one at a time."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.names import canonical

FLOAT_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
# Bytes, of whole numbers; larger ones fall out of the cache, at a third of the speed.
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor's place in a file.

    Attributes:
        name: canonical (see merging/algebra/names.py).
        stored_name: as on disk.
        dtype: as safetensors spells it, such as BF16.
        start: its first byte in `path`.
    """

    name: str
    stored_name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    num_bytes: int

    @property
    def module(self) -> str:
        """Return the canonical name of the module that it is a parameter of."""
        return self.name.rpartition(".")[0]

    @property
    def is_matrix(self) -> bool:
        """Return True for the weight of a linear layer or of an embedding."""
        return len(self.shape) == 2 and self.name.endswith(".weight")

    @property
    def is_float(self) -> bool:
        """Return True where it holds unquantised numbers."""
        return self.dtype in FLOAT_DTYPES

    def chunks(self) -> Iterator[Tensor]:
        """Yield its numbers in order, in flat pieces, each written over the one before.

        They are bytes where it is none of FLOAT_DTYPES.
        """
        piece = torch.from_numpy(np.empty(min(_CHUNK, self.num_bytes), dtype=np.uint8))
        dtype = FLOAT_DTYPES.get(self.dtype, torch.uint8)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            for position in range(0, self.num_bytes, _CHUNK):
                piece = piece[: self.num_bytes - position]
                file.readinto(piece.numpy().data)
                yield piece.view(dtype)

    def read(self) -> Tensor:
        """Load it, in the dtype it is stored in (one of FLOAT_DTYPES)."""
        content = np.empty(self.num_bytes, dtype=np.uint8)  # not zeroed first, in large pages
        with self.path.open("rb") as file:
            file.seek(self.start)
            file.readinto(content.data)
        return torch.from_numpy(content).view(FLOAT_DTYPES[self.dtype]).view(self.shape)

    def check_finite(self, values: Tensor) -> None:
        """Verify numbers of it, by their extremes: nearly as fast as memory is read.

        Raises:
            ValueError: one is NaN or infinite.
        """
        low, high = values.aminmax()  # both are NaN where one value is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"The base model is damaged: {self.stored_name} in {self.path} has NaN or Inf; "
                "copy or download it again."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One safetensors file.

    Attributes:
        metadata: the header's free texts, such as {"format": "pt"}; None where it has none.
        tensors: in the order of their data.
    """

    path: Path
    metadata: dict[str, str] | None
    tensors: tuple[StoredTensor, ...]


def read_shard(path: Path, model_type: str | None) -> Shard:
    """Read the header of a safetensors file.

    Raises:
        ValueError: the file is cut, or is none of its kind.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise damaged(path)
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", None)
            tensors = sorted(
                (
                    _stored(name, entry, path, 8 + length, model_type)
                    for name, entry in header.items()
                ),
                key=lambda tensor: (tensor.start, tensor.num_bytes),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(path) from error
    if 8 + length + sum(tensor.num_bytes for tensor in tensors) != size:
        raise damaged(path)
    return Shard(path=path, metadata=metadata, tensors=tuple(tensors))


def _stored(
    name: str, entry: dict[str, Any], path: Path, data: int, model_type: str | None
) -> StoredTensor:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    dtype = FLOAT_DTYPES.get(entry["dtype"])
    if dtype is not None and math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError(name)
    return StoredTensor(
        name=canonical(name, model_type),
        stored_name=name,
        dtype=entry["dtype"],
        shape=shape,
        path=path,
        start=data + start,
        num_bytes=end - start,
    )


def damaged(path: Path) -> ValueError:
    """Return the error of a file that is cut or is none of its kind."""
    return ValueError(f"{path} is truncated or damaged; copy or download it again.")
