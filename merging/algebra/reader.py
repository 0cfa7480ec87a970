"""Read PEFT LoRA adapters as one low-rank update per module, or say why they cannot be merged.

What the fields and tensors of an adapter mean is defined by PEFT 0.21.2, `peft/tuners/lora`:
https://github.com/huggingface/peft; rank-stabilised scaling: https://arxiv.org/abs/2312.03732.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from common.files import file_hash
from merging.algebra.adapter_config import read_config_file
from merging.algebra.adapters import Adapter
from merging.algebra.low_rank import LowRank
from models.adapter_config import CONFIG_FILE, AdapterConfig
from models.adapter_files import (
    AdapterFiles,
    check_modules,
    check_whole_tensors,
    read_adapter_files,
)
from models.adapter_targets import by_pattern, saved_whole
from models.run_record import read_run

_LORA_KEY = re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.(weight|bias))?")
_PARTS = {
    ("lora_A", "weight"): "lora_A",
    ("lora_B", "weight"): "lora_B",
    ("lora_B", "bias"): "lora_B.bias",
    ("lora_magnitude_vector", None): "lora_magnitude_vector",
}
_EMBEDDINGS = re.compile(r"(?:.*\.)?(?:embed_tokens|lm_head)\.weight")  # saved where resized


def read_adapter(
    folder: Path,
    model_type: str | None = None,
    layers: Collection[str] | None = None,
    parameters: Collection[str] = (),
) -> Adapter:
    """Read the adapter in a folder.

    Args:
        folder: with adapter_config.json and the weights.
        model_type: the base's `config.model_type`; some families' old names are known by it.
        layers: canonical names of the base's matrices, to check that the adapter is whole.
        parameters: those of all its weights and biases, to check its whole tensors too.

    Raises:
        ValueError: no adapter, a damaged one, one that lacks updates or has some of layers that
            the base does not have, or of a kind that cannot be merged.
    """
    config = read_config_file(folder)
    files = read_adapter_files(folder, model_type)
    modules, saved = _group(config, files)
    if layers is not None:
        check_modules(files, layers, model_type)
    check_whole_tensors(files, parameters)
    alphas = {
        name: by_pattern(config.alpha_pattern, files.trained_as[name], config.lora_alpha)
        for name in modules
    }
    updates = {
        name: LowRank(
            b=module["lora_B"].float(),
            a=module["lora_A"].float(),
            scale=_scale(alphas[name], len(module["lora_A"]), config.use_rslora),
        )
        for name, module in modules.items()
    }
    adapter = Adapter(
        folder=folder,
        config=config,
        base_model=config.base_model_name_or_path or "",
        base_fingerprint=read_run(folder).get("base_fingerprint"),
        updates=updates,
        alphas=alphas,
        dora={
            name: module["lora_magnitude_vector"].float()
            for name, module in modules.items()
            if config.use_dora
        },
        biases={
            name: updates[name].scale * module["lora_B.bias"].float()
            for name, module in modules.items()
            if config.lora_bias
        },
        saved=saved,
        dtypes=tuple(sorted({_dtype(t) for m in modules.values() for t in m.values()})),
        sha256=file_hash(files.path),
        num_bytes=files.path.stat().st_size,
    )
    untrained = f"Adapter {folder} changes nothing: every update is zero (untrained?)."
    return adapter if _is_changing(adapter) else replace(adapter, warnings=(untrained,))


def _is_changing(adapter: Adapter) -> bool:
    """Return True where some update is not zero, or there is more than updates."""
    updates = adapter.updates.values()
    return (
        any(update.scale and update.a.any() and update.b.any() for update in updates)
        or any(bias.any() for bias in adapter.biases.values())
        or bool(adapter.saved or adapter.dora)
    )


def _group(
    config: AdapterConfig, files: AdapterFiles
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Sort an adapter's tensors into LoRA modules, checked, and whole tensors, by their names."""
    modules: dict[str, dict[str, Tensor]] = {}
    saved: dict[str, Tensor] = dict(files.beside)
    for key, tensor in files.tensors.items():
        if "lora_embedding_" in key:
            raise ValueError(
                f"Adapter {files.folder} adapts an embedding ({files.keys[key]}), which is not "
                "supported yet; train one on linear layers only."
            )
        match = _LORA_KEY.fullmatch(key)
        part = _PARTS.get((match[2], match[3])) if match else None
        if match and part:
            modules.setdefault(match[1], {})[part] = tensor
        elif match or not _is_saved(config, key):
            raise ValueError(
                f"Adapter {files.folder} holds {files.keys[key]}, which its {CONFIG_FILE} does "
                "not explain; save it anew with PEFT."
            )
        else:
            saved[key] = tensor
    for name, module in modules.items():
        _check_module(files.folder, config, name, files.trained_as[name], module)
    if not modules:
        raise ValueError(
            f"Adapter {files.folder} holds no lora_A, so there is nothing to merge; give another "
            "one."
        )
    return dict(sorted(modules.items())), dict(sorted(saved.items()))


def _is_saved(config: AdapterConfig, name: str) -> bool:
    """Return True where a tensor that is not LoRA's belongs to this adapter."""
    return (
        (name.endswith(".bias") and config.bias != "none")
        or _EMBEDDINGS.fullmatch(name) is not None
        or saved_whole(config.modules_to_save, name)
    )


def _check_module(
    folder: Path, config: AdapterConfig, name: str, trained_as: str, module: Mapping[str, Tensor]
) -> None:
    where = f"Adapter {folder}: module {name}"
    for part in ("lora_A", "lora_B"):
        if part not in module:
            raise ValueError(f"{where} has no {part}; copy or download the adapter again.")
        shape = tuple(module[part].shape)
        if len(shape) != 2:
            raise ValueError(
                f"{where} has a {part} of shape {shape}, where a matrix is expected; "
                "convolutions are not supported yet."
            )
    for is_used, option, part in (
        (config.use_dora, "use_dora", "lora_magnitude_vector"),
        (config.lora_bias, "lora_bias", "lora_B.bias"),
    ):
        if (part in module) != is_used:
            found = "no" if is_used else "a"
            raise ValueError(
                f"{where} has {found} {part} although {CONFIG_FILE} says {option} "
                f"{str(is_used).lower()}; save the adapter anew with PEFT."
            )
    rank = by_pattern(config.rank_pattern, trained_as, config.r)
    a, b = module["lora_A"], module["lora_B"]
    if (a.shape[0], b.shape[1]) != (rank, rank):
        raise ValueError(
            f"{where} has {a.shape[0]} rows in lora_A and {b.shape[1]} columns in lora_B, and by "
            f"{CONFIG_FILE} its rank is {rank}; put the adapter's own {CONFIG_FILE} beside it."
        )
    for part, tensor in module.items():
        if tensor.dim() == 1 and len(tensor) != len(b):
            raise ValueError(
                f"{where} has {len(tensor)} entries in {part}, and {len(b)} outputs; copy or "
                "download the adapter again."
            )


def _scale(alpha: float, rank: int, use_rslora: bool) -> float:
    return alpha / (math.sqrt(rank) if use_rslora else rank)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
