"""A base model as its config and the headers of its safetensors shards describe it.

No weight is loaded before it is asked for, and no file of the Hub but config.json is fetched before
a weight or a header is. File format: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merging.algebra.names import canonical
from models.checkpoint import read_config
from models.registry import family_of

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What a folder holds beside its weights and config.json so that it can be used.
COMPANIONS = (
    "generation_config.json",
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json"),
)
FLOAT_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_CHUNK = 1 << 20  # bytes; larger ones fall out of the cache, at a third of the speed


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies.

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
        """Canonical name of the module that it is a parameter of."""
        return self.name.rpartition(".")[0]

    @property
    def is_matrix(self) -> bool:
        """Whether it is the weight of a linear layer or of an embedding."""
        return len(self.shape) == 2 and self.name.endswith(".weight")

    @property
    def is_float(self) -> bool:
        """Whether it holds unquantised numbers."""
        return self.dtype in FLOAT_DTYPES

    def chunks(self) -> Iterator[bytes]:
        """Its bytes as they are stored."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            for position in range(0, self.num_bytes, _CHUNK):
                yield file.read(min(_CHUNK, self.num_bytes - position))

    def read(self) -> Tensor:
        """Load it, in the dtype it is stored in (one of FLOAT_DTYPES)."""
        content = bytearray(self.num_bytes)
        with self.path.open("rb") as file:
            file.seek(self.start)
            file.readinto(content)
        return torch.frombuffer(content, dtype=FLOAT_DTYPES[self.dtype]).view(self.shape)


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


@dataclass(frozen=True, kw_only=True)
class Base:
    """A full model that adapters were trained on.

    Attributes:
        name: folder, Hub id or `tiny`, as it was given.
        revision: the commit on the Hub, None for a folder.
        config: the content of config.json.
        local: the folder, None on the Hub.
    """

    name: str
    revision: str | None
    config: dict[str, Any]
    local: Path | None

    @cached_property
    def folder(self) -> Path:
        """The folder with the weights; fetches them from the Hub at the first use.

        Raises:
            ValueError: the download failed.
        """
        return self.local or _download(self.name, self.revision)

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The files with the weights.

        Raises:
            ValueError: there is none, one is missing, or one is not whole.
        """
        if (self.folder / WEIGHTS).is_file():
            return (_read_shard(self.folder / WEIGHTS, self.config.get("model_type")),)
        if self.index is None:
            raise ValueError(_without_weights(self.folder))
        names = sorted(set(self.index["weight_map"].values()))
        for name in names:
            # a name with a folder in it would be written there too
            if Path(name).name != name or not (self.folder / name).is_file():
                raise ValueError(
                    f"{self.folder / INDEX} lists {name}, which is not in that folder; copy or "
                    "download the model again."
                )
        return tuple(
            _read_shard(self.folder / name, self.config.get("model_type")) for name in names
        )

    @cached_property
    def index(self) -> dict[str, Any] | None:
        """The content of the index; None where one file holds all weights.

        Raises:
            ValueError: it is no index.
        """
        path = self.folder / INDEX
        if (self.folder / WEIGHTS).is_file() or not path.is_file():
            return None
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(index["weight_map"], dict):
                return dict(index)
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
            pass
        raise ValueError(
            f"{path} is no index of safetensors shards: it has no weight_map; copy or download it "
            "again."
        )

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """Canonical name -> tensor on disk; without the copy that tying adds in memory.

        Raises:
            ValueError: as for `shards`.
        """
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    def read_weight(self, module: str) -> Tensor:
        """The (d_out, d_in) weight of a module, by its canonical name, in float32."""
        return self.tensors[f"{module}.weight"].read().float()

    @property
    def is_tied(self) -> bool:
        """Whether embed_tokens is the output layer's weight as well."""
        is_said = self.config.get("tie_word_embeddings") is True
        return is_said or "lm_head.weight" not in self.tensors

    @property
    def quantization(self) -> str | None:
        """The method that the weights on disk are quantised by, such as gptq; None if unknown."""
        config = self.config.get("quantization_config")
        return str(config.get("quant_method", "an unknown method")) if config else None

    def check_unquantized(self) -> None:
        """Raise ValueError where updates cannot be added to the weights as they are stored."""
        if self.quantization:
            raise ValueError(
                f"{self.name} is quantised ({self.quantization}) and a full export needs the "
                "unquantised base; pass that, or export an adapter."
            )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Canonical module name -> (d_out, d_in) of each matrix: linear layers and embeddings.

        From the headers; on the Hub or quantised, where those are far or of packed numbers, from
        the config.
        """
        if self.local is not None and not self.quantization:
            shapes = {t.module: t.shape for t in self.tensors.values() if t.is_matrix}
        else:
            shapes = {
                name.removesuffix(".weight"): tuple(parameter.shape)
                for name, parameter in self._skeleton().named_parameters()
                if name.endswith(".weight") and parameter.dim() == 2
            }
        return {module: (d_out, d_in) for module, (d_out, d_in) in shapes.items()}

    def quantized_in_training(self) -> frozenset[str]:
        """Canonical names of the linear layers that QLoRA training holds in 4 bits.

        Raises:
            ValueError: the model is of no known family.
        """
        family = family_of(str(self.config.get("model_type")), self.name)
        return frozenset(
            name
            for name, module in self._skeleton().named_modules()
            if isinstance(module, torch.nn.Linear)
            and not name.startswith(family.unquantized_modules)
        )

    def _skeleton(self) -> Any:
        """The model without weights."""
        kind = family_of(str(self.config.get("model_type")), self.name)
        family = kind(str(self.local or self.name), self.revision)
        try:
            _ = family.config
        except ValueError as error:
            raise ValueError(
                f"{self.name} is a model with code of its own, whose layers are not known without "
                "running it; adapters of such models cannot be merged here."
            ) from error
        return family.empty_model


def open_base(name: str, revision: str | None = None) -> Base:
    """Find a base model and read its config.

    Args:
        name: folder, Hub id or `tiny`.
        revision: of the Hub repository.

    Raises:
        ValueError: nothing there, not a full model, or the Hub cannot be reached.
    """
    config, folder, commit = read_config(name, revision)
    return Base(name=name, revision=commit, config=config, local=folder)


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path} is truncated or damaged; copy or download it again.")


def _read_shard(path: Path, model_type: str | None) -> Shard:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _damaged(path)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path) from error
    if 8 + length + sum(tensor.num_bytes for tensor in tensors) != size:
        raise _damaged(path)
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


def _without_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if not pickled:
        return f"{folder} has no weights: neither {WEIGHTS} nor {INDEX} is there."
    return (
        f"{folder} has its weights in {pickled[0]}, not in safetensors files; convert it first: "
        "load it with transformers and call save_pretrained on a new folder."
    )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["model*.safetensors", INDEX, "config.json", *COMPANIONS]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except OSError as error:  # what the Hub's library raises, a full disk included
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The weights of {name} cannot be fetched from the Hub ({reason}); try again, or pass "
            "a folder with the model."
        ) from error
