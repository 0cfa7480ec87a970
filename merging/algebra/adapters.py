"""Read PEFT LoRA adapters as one low-rank update per module, or say why they cannot be merged.

What the fields and tensors of an adapter mean is defined by PEFT 0.21.2, `peft/tuners/lora`:
https://github.com/huggingface/peft; rank-stabilised scaling: https://arxiv.org/abs/2312.03732.
"""

import hashlib
import math
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from merging.algebra.low_rank import LowRank
from merging.algebra.names import canonical

T = TypeVar("T")
Rank = Annotated[int, Meta(gt=0)]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
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
# these leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take something out of it
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")


class AdapterConfig(msgspec.Struct, frozen=True):
    """The fields of adapter_config.json that say what the tensors mean."""

    r: Rank
    lora_alpha: float
    base_model_name_or_path: str | None = None
    revision: str | None = None
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, float] | None = None
    target_modules: str | list[str] | None = None
    use_dora: bool = False
    lora_bias: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str = True


class _Kind(msgspec.Struct):
    """Decides whether the rest is read at all; where a field beside the first is set, it is not."""

    peft_type: str
    fan_in_fan_out: object = None
    target_parameters: object = None
    layer_replication: object = None
    trainable_token_indices: object = None
    alora_invocation_tokens: object = None
    arrow_config: object = None
    kasa_config: object = None
    monteclora_config: object = None
    use_bdlora: object = None
    use_qalora: object = None


class _Run(msgspec.Struct):
    """What a run.json of ours says of the base."""

    base_fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """An adapter in memory; modules by their canonical names, in sorted order.

    Attributes:
        folder: where it was read.
        config: what its adapter_config.json says.
        base_model: name of the model it was trained on, empty where it does not say.
        base_fingerprint: of that model's weights, where a run.json of ours recorded it.
        updates: the update of each module.
        alphas: lora_alpha of each module; its rank is `updates[module].rank`.
        dora: DoRA's magnitudes, (d_out,) float32 per module.
        biases: lora_bias: the update of each module's bias, scale applied, (d_out,) float32.
        saved: whole tensors that replace the base's, by parameter name, as stored:
            modules_to_save, trained biases, embeddings.
        dtypes: of the LoRA tensors in the file.
        sha256: of the file with the weights.
        num_bytes: of that file.
        warnings: sentences for the user.
    """

    folder: Path
    config: AdapterConfig
    base_model: str
    base_fingerprint: str | None
    updates: Mapping[str, LowRank]
    alphas: Mapping[str, float]
    dora: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    saved: Mapping[str, Tensor]
    dtypes: tuple[str, ...]
    sha256: str
    num_bytes: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Module:
    """What the file has for one module, under the name by which it was trained."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by the values of _PARTS


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter in a folder.

    Raises:
        ValueError: no adapter, a damaged one, or of a kind that cannot be merged.
    """
    config = _read_config(folder)
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
        base_fingerprint=_read_fingerprint(folder),
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
        sha256=_sha256(path),
        num_bytes=path.stat().st_size,
        warnings=tuple(warnings),
    )


def check_low_rank_only(adapter: Adapter) -> None:
    """Refuse what an adapter with the merged update of each module could not express.

    Raises:
        ValueError: DoRA, trained biases, or whole modules.
    """
    reasons = (
        (adapter.dora, "uses DoRA, whose update is not low rank ({0} first)"),
        (adapter.biases, "has lora_bias: updates of biases ({0} first)"),
        (adapter.saved, "holds whole tensors beside its LoRA ({0} first)"),
    )
    for tensors, reason in reasons:
        if tensors:
            raise ValueError(
                f"Adapter {adapter.folder} {reason.format(next(iter(tensors)))}, which a merged "
                "adapter cannot hold; write a full model by --export full."
            )


def check_same_base(
    adapters: Sequence[Adapter],
    base: str,
    *,
    base_fingerprint: str | None = None,
    allow_mismatch: bool = False,
) -> list[str]:
    """Refuse adapters that were not trained on `base`.

    Fingerprints decide where both are known; else names do, and where only their last parts
    agree (a copy of a Hub model in a folder) that is let through with a warning.

    Args:
        adapters: what is to be merged.
        base: folder or Hub id of the model.
        base_fingerprint: of its weights (`models.checkpoint.Checkpoint.fingerprint`).
        allow_mismatch: warn in place of refusing.

    Returns:
        Warnings.

    Raises:
        ValueError: another base; names both.
    """
    warnings = []
    fingerprint, of_whom = base_fingerprint, base
    for adapter in adapters:
        trained_on = adapter.base_model or "a base that it does not name"
        is_known = adapter.base_fingerprint is not None and fingerprint is not None
        problem = ""
        if is_known and adapter.base_fingerprint != fingerprint:
            problem = f"was trained on {trained_on}, whose weights are not those of {of_whom}"
        elif is_known and of_whom == base:
            continue
        elif not adapter.base_model:
            warnings.append(
                f"Adapter {adapter.folder} does not name its base; it is taken to be {base}."
            )
        elif _last_part(adapter.base_model) != _last_part(base):
            problem = f"was trained on {adapter.base_model}, not on {base}"
        elif adapter.base_model != base:
            warnings.append(
                f"Adapter {adapter.folder} was trained on {adapter.base_model}; "
                f"{base} is taken to be the same model."
            )
        if problem and not allow_mismatch:
            raise ValueError(
                f"Adapter {adapter.folder} {problem}; only adapters of one base can be merged: "
                "pass theirs as --base_model, or --allow_base_mismatch if you know that they are "
                "the same."
            )
        if problem:
            warnings.append(f"Adapter {adapter.folder} {problem}.")
        if fingerprint is None and adapter.base_fingerprint is not None:
            fingerprint, of_whom = adapter.base_fingerprint, f"adapter {adapter.folder}'s base"
    return warnings


def check_shapes(adapters: Iterable[Adapter], shapes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse updates that do not fit the base's weights.

    Args:
        adapters: what is to be merged.
        shapes: (d_out, d_in) of each of the base's weight matrices, by canonical module name.

    Raises:
        ValueError: the base has no such module, or it has another shape.
    """
    for adapter in adapters:
        for name, update in adapter.updates.items():
            if name not in shapes:
                raise ValueError(
                    f"Adapter {adapter.folder} changes {name}, which the base model does not "
                    "have; pass the model it was trained on as --base_model."
                )
            if update.shape != tuple(shapes[name]):
                (rows, columns), (base_rows, base_columns) = update.shape, shapes[name]
                raise ValueError(
                    f"Adapter {adapter.folder} changes {name} by a {rows} x {columns} matrix, "
                    f"and the base model has {base_rows} x {base_columns} there; pass the model "
                    "it was trained on as --base_model."
                )


def _read_config(folder: Path) -> AdapterConfig:
    if not folder.is_dir():
        raise ValueError(f"No adapter at {folder}: it is not a folder; give one that PEFT wrote.")
    path = folder / CONFIG_FILE
    if not path.is_file():
        what = "a full model" if (folder / "config.json").is_file() else "no adapter"
        raise ValueError(
            f"{folder} holds {what}: it has no {CONFIG_FILE}; give the folder of a LoRA adapter."
        )
    content = path.read_bytes()
    try:
        kind = msgspec.json.decode(content, type=_Kind)
        _check_kind(folder, kind)
        config = msgspec.json.decode(content, type=AdapterConfig)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{path} is not the configuration of a LoRA adapter: {error}; save it anew with PEFT."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not complete JSON ({error}); copy or download it again."
        ) from error
    if config.init_lora_weights not in _PLAIN_STARTS:
        raise ValueError(
            f"Adapter {folder} was started by {config.init_lora_weights}, which changes the base "
            "model's own weights and is not supported yet; convert it to an ordinary LoRA by "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )
    return config


def _check_kind(folder: Path, kind: _Kind) -> None:
    if kind.peft_type != "LORA":
        raise ValueError(
            f"Adapter {folder} is of type {kind.peft_type}, which is not supported yet; only LORA "
            "adapters can be merged."
        )
    for name, value in msgspec.structs.asdict(kind).items():
        if name != "peft_type" and value:
            raise ValueError(
                f"Adapter {folder} was trained with {name}, which is not supported yet; merge "
                "adapters without it."
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
    """Whether a tensor that is not LoRA's belongs into this adapter."""
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


def _read_fingerprint(folder: Path) -> str | None:
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Run).base_fingerprint
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a run.json of ours ({error}); remove it.") from error


def _last_part(name: str) -> str:
    """The model's own name: the last part of a path or Hub id; in the Hub's cache, the id's."""
    cached = re.search(r"models--[^/]+--([^/]+)/snapshots/[^/]+/?$", name)
    return cached[1] if cached else Path(name).name


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
