"""Read PEFT LoRA adapters as one low-rank update per module, or say why they cannot be merged.

What the fields and tensors of an adapter mean is defined by PEFT 0.21.2, `peft/tuners/lora`:
https://github.com/huggingface/peft; rank-stabilised scaling: https://arxiv.org/abs/2312.03732.
"""

import math
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from common.files import file_hash
from merging.algebra.adapter_config import CONFIG_FILE, AdapterConfig, read_config_file
from merging.algebra.adapters import WEIGHTS_FILE, Adapter
from merging.algebra.low_rank import LowRank
from merging.algebra.names import canonical
from models.run_record import read_run

T = TypeVar("T")
_PICKLE_FILE = "adapter_model.bin"
_PREFIX = "base_model.model."
# the file may name the adapter in between, as in `.lora_A.default.weight`
_LORA_KEY = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$|bias$)[^.]+)?(?:\.(?P<parameter>weight|bias))?"
)
_PARTS = {
    ("lora_A", "weight"): "lora_A",
    ("lora_B", "weight"): "lora_B",
    ("lora_B", "bias"): "lora_B.bias",
    ("lora_magnitude_vector", None): "lora_magnitude_vector",
    ("lora_magnitude_vector", "weight"): "lora_magnitude_vector",
}
_EMBEDDINGS = re.compile(r"(?:.*\.)?(?:embed_tokens|lm_head)\.weight")  # saved where resized
_FROZEN = re.compile(r".*\.lm_head\.base_layer\.weight")  # saved too where lm_head has a LoRA


@dataclass(frozen=True, slots=True)
class _Module:
    """The tensors of one module in the file, under the name by which it was trained."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by the values of _PARTS


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter in a folder.

    Raises:
        ValueError: no adapter, a damaged one, or of a kind that cannot be merged.
    """
    config = read_config_file(folder)
    path, tensors = _read_tensors(folder)
    modules, saved = _group(folder, config, tensors)
    for name, module in modules.items():
        _check_module(folder, config, name, module)
    if not modules:
        raise ValueError(
            f"Adapter {folder} holds no lora_A, so there is nothing to merge; give another one."
        )
    alphas = {
        name: _by_pattern(config.alpha_pattern, module.name, config.lora_alpha)
        for name, module in modules.items()
    }
    updates = {
        name: LowRank(
            b=module.tensors["lora_B"].float(),
            a=module.tensors["lora_A"].float(),
            scale=_scale(alphas[name], len(module.tensors["lora_A"]), config.use_rslora),
        )
        for name, module in modules.items()
    }
    warnings = []
    if not any(update.b.any() for update in updates.values()):
        warnings.append(f"Adapter {folder} changes nothing: every lora_B is zero (untrained?).")
    return Adapter(
        folder=folder,
        config=config,
        base_model=config.base_model_name_or_path or "",
        base_fingerprint=read_run(folder).get("base_fingerprint"),
        updates=updates,
        alphas=alphas,
        dora={
            name: module.tensors["lora_magnitude_vector"].float()
            for name, module in modules.items()
            if config.use_dora
        },
        biases={
            name: updates[name].scale * module.tensors["lora_B.bias"].float()
            for name, module in modules.items()
            if config.lora_bias
        },
        saved=saved,
        dtypes=tuple(sorted({_dtype(t) for m in modules.values() for t in m.tensors.values()})),
        sha256=file_hash(path),
        num_bytes=path.stat().st_size,
        warnings=tuple(warnings),
    )


def _read_tensors(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file with the weights, and the finite tensors in it."""
    path = folder / WEIGHTS_FILE
    if path.is_file():
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); copy or download it again.") from error
    elif (folder / _PICKLE_FILE).is_file():
        path = folder / _PICKLE_FILE
        tensors = _unpickle(path)
    else:
        raise ValueError(
            f"Adapter {folder} has no weights: neither {WEIGHTS_FILE} nor {_PICKLE_FILE} is there; "
            "copy or download it again."
        )
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"Adapter {folder} has NaN or Inf in {key}: its training diverged; take an "
                "earlier checkpoint."
            )
    return path, tensors


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and running its code is not an "
            "option; save the adapter as safetensors."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(f"{path} is not a table of tensors; save the adapter as safetensors.")
    return content


def _group(
    folder: Path, config: AdapterConfig, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, _Module], dict[str, Tensor]]:
    """Sort an adapter's tensors into LoRA modules and whole tensors, by canonical names."""
    modules: dict[str, _Module] = {}
    saved: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if "lora_embedding_" in key:
            raise ValueError(
                f"Adapter {folder} adapts an embedding ({key}), which is not supported yet; "
                "train one on linear layers only."
            )
        match = _LORA_KEY.fullmatch(key.removeprefix(_PREFIX))
        part = _PARTS.get((match["part"], match["parameter"])) if match else None
        if match and part and key.startswith(_PREFIX):
            module = modules.setdefault(canonical(match["module"]), _Module(match["module"]))
            place = module.tensors
        elif _FROZEN.fullmatch(key):
            continue
        else:
            name = key.removeprefix(_PREFIX).replace(".base_layer.", ".")
            if match or not key.startswith(_PREFIX) or not _is_saved(config, name):
                raise ValueError(
                    f"Adapter {folder} holds {key}, which its {CONFIG_FILE} does not explain; "
                    "save it anew with PEFT."
                )
            place, part = saved, canonical(name)
        if part in place:
            raise ValueError(
                f"Adapter {folder} holds {key} a second time under another name; keep one of them."
            )
        place[part] = tensor
    return dict(sorted(modules.items())), dict(sorted(saved.items()))


def _is_saved(config: AdapterConfig, name: str) -> bool:
    """Return True where a tensor that is not LoRA's belongs to this adapter."""
    return (
        (name.endswith(".bias") and config.bias != "none")
        or _EMBEDDINGS.fullmatch(name) is not None
        or any(re.match(rf"(?:.*\.)?(?:{m})\.", name) for m in config.modules_to_save or ())
    )


def _check_module(folder: Path, config: AdapterConfig, name: str, module: _Module) -> None:
    where = f"Adapter {folder}: module {name}"
    for part in ("lora_A", "lora_B"):
        if part not in module.tensors:
            raise ValueError(f"{where} has no {part}; copy or download the adapter again.")
        shape = tuple(module.tensors[part].shape)
        if len(shape) != 2:
            raise ValueError(
                f"{where} has a {part} of shape {shape}, where a matrix is expected; "
                "convolutions are not supported yet."
            )
    for is_used, option, part in (
        (config.use_dora, "use_dora", "lora_magnitude_vector"),
        (config.lora_bias, "lora_bias", "lora_B.bias"),
    ):
        if (part in module.tensors) != is_used:
            found = "no" if is_used else "a"
            raise ValueError(
                f"{where} has {found} {part} although {CONFIG_FILE} says {option} "
                f"{str(is_used).lower()}; save the adapter anew with PEFT."
            )
    rank = _by_pattern(config.rank_pattern, module.name, config.r)
    a, b = module.tensors["lora_A"], module.tensors["lora_B"]
    if (a.shape[0], b.shape[1]) != (rank, rank):
        raise ValueError(
            f"{where} has {a.shape[0]} rows in lora_A and {b.shape[1]} columns in lora_B, and by "
            f"{CONFIG_FILE} its rank is {rank}; put the adapter's own {CONFIG_FILE} beside it."
        )
    for part, tensor in module.tensors.items():
        if tensor.dim() == 1 and len(tensor) != len(b):
            raise ValueError(
                f"{where} has {len(tensor)} entries in {part}, and {len(b)} outputs; copy or "
                "download the adapter again."
            )


def _by_pattern(pattern: Mapping[str, T] | None, name: str, default: T) -> T:
    """The value of the first key that matches; as `peft.utils.other.get_pattern_key`.

    Args:
        pattern: values by regular expression.
        name: of the module, as it was called when it was trained.
        default: where no key matches.
    """
    found: Iterator[T] = (
        value
        for key, value in (pattern or {}).items()
        if re.match(rf"(.*\.)?({key})$", name) is not None
    )
    return next(found, default)


def _scale(alpha: float, rank: int, use_rslora: bool) -> float:
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
