"""The identity of a base model: its weights, however they are cut into files.

The fingerprint is a hash over the canonical name, shape and dtype of each tensor and three samples
of its bytes. It is the same for one file, for shards and for pickled files. It does not see
a change that leaves all samples as they are; training and quantisation change every tensor.
Format of safetensors: https://huggingface.co/docs/safetensors, "Format".
"""

import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.names import canonical

if TYPE_CHECKING:
    from torch import Tensor

_SCHEME = "w2"  # fingerprints of the first scheme, without this, cannot be compared with these
_SAMPLE = 512  # bytes at the start, in the middle and at the end of a tensor
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)
_SPELLED = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}


def fingerprint(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the fingerprint of the weights in a folder; None where they cannot be read.

    Args:
        folder: with safetensors files, or else with `pytorch_model*.bin`.
        config: the content of config.json.
    """
    model_type = str(config.get("model_type"))
    is_tied = config.get("tie_word_embeddings") is True
    tensors = sorted(folder.glob("*.safetensors"))
    read = _stored if tensors else _pickled
    digests: dict[str, str] = {}
    try:
        for path in tensors or sorted(folder.glob("pytorch_model*.bin")):
            for name, kind, sample in read(path):
                own = canonical(name, model_type)
                if not (is_tied and own == "lm_head.weight"):  # some files hold it twice
                    digests[own] = f"{own} {kind} {hashlib.sha256(sample).hexdigest()}"
    except (*_DAMAGED, pickle.UnpicklingError):
        return None  # loading says what is wrong with the file
    if not digests:
        return None
    whole = "\n".join(digests[name] for name in sorted(digests))
    return f"{_SCHEME}:{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def same_weights(one: str | None, other: str | None) -> bool | None:
    """Return True where two fingerprints are of the same weights, None where that is not known."""
    if one is None or other is None or one.partition(":")[1] != other.partition(":")[1]:
        return None
    return one == other


def _places(size: int) -> list[int]:
    """Return the offsets of the samples in so many bytes."""
    last = max(0, size - _SAMPLE)
    return [0, last // 2, last]


def _stored(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield name, dtype with shape, and samples of the tensors of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            sample = b""
            for place in _places(end - start):
                file.seek(8 + length + start + place)
                sample += file.read(min(_SAMPLE, end - start))
            yield name, f"{entry['dtype']} {list(entry['shape'])}", sample


def _pickled(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield the same of a pickled file, of which tensors alone are read."""
    import torch

    content: dict[str, Tensor] = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    for name, tensor in content.items():
        data = tensor.contiguous().view(-1).view(torch.uint8)
        sample = b"".join(
            data[place : place + _SAMPLE].numpy().tobytes() for place in _places(len(data))
        )
        dtype = str(tensor.dtype).removeprefix("torch.")
        yield name, f"{_SPELLED.get(dtype, dtype)} {list(tensor.shape)}", sample
