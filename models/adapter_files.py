"""The files of an adapter: its tensors by the names of the installed transformers, all of them.

Format: PEFT 0.21.2, https://github.com/huggingface/peft, `peft/utils/save_and_load.py`. What
wraps a model while it trains (torch.compile, FSDP, DDP) leaves its mark on the names, and so do
versions of PEFT and of transformers; the tensors are the same.
"""

import pickle
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.adapter_config import CONFIG_FILE, changing_setting, read_config
from models.adapter_targets import meant, saved_whole
from models.names import canonical

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"
# Whole tensors beside the LoRA: what training scripts for LLaVA and for Qwen-VL write.
BESIDE_FILES = ("non_lora_trainables.bin", "non_lora_state_dict.bin")

_PREFIX = re.compile(r"^(?:(?:module|base_model\.model)\.)+")
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# the file may name the adapter in between, as in `.lora_A.default.weight`
_LORA_KEY = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector|lora_embedding_A"
    r"|lora_embedding_B)(?:\.(?!weight$|bias$)[^.]+)?(?:\.(?P<parameter>weight|bias))?"
)
_SAVED_KEY = re.compile(r"(?P<module>.+)\.modules_to_save\.(?:[^.]+\.)?(?P<parameter>.+)")
# of the base, as it was: a raw state dict holds it too
_FROZEN_KEY = re.compile(r".+\.original_module\..+|(?:.*\.)?lm_head\.base_layer\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFiles:
    """The content of an adapter's files.

    Attributes:
        folder: with the files.
        path: the file with the weights.
        config: the content of adapter_config.json.
        tensors: canonical key -> tensor, such as `MODULE.lora_A.weight`; keys of whole tensors
            are names of parameters.
        keys: canonical key -> key in the file.
        trained_as: canonical name of each LoRA module -> its name in the file.
        beside: canonical parameter name -> whole tensor, of a file beside the LoRA's.
    """

    folder: Path
    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, "Tensor"]
    keys: Mapping[str, str]
    trained_as: Mapping[str, str]
    beside: Mapping[str, "Tensor"]


def read_adapter_files(folder: Path, model_type: str | None = None) -> AdapterFiles:
    """Read all tensors of the adapter in a folder.

    Args:
        folder: with adapter_config.json.
        model_type: the base's `config.model_type`; some families' old names are known by it.

    Raises:
        ValueError: no weights, damaged ones, NaN or infinities, or two tensors of one name.
    """
    config = read_config(folder)
    path = weights_file(folder)
    if path is None:
        raise ValueError(
            f"Adapter {folder} has no weights: neither {WEIGHTS_FILE} nor {PICKLE_FILE} is there; "
            "copy or download it again."
        )
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    trained_as: dict[str, str] = {}
    for key, tensor in _read_tensors(path).items():
        _check_numbers(folder, key, tensor)
        own = _own_key(key)
        if _FROZEN_KEY.fullmatch(own):
            continue
        name, module = _canonical_key(own, model_type)
        if module is not None:
            trained_as[canonical(module, model_type)] = module
        if name in tensors:
            if module is None and tensors[name].equal(tensor):
                continue  # with bias="all" PEFT writes biases of saved modules twice
            raise ValueError(
                f"Adapter {folder} holds {key} a second time under another name; keep one of them."
            )
        tensors[name], keys[name] = tensor, key
    return AdapterFiles(
        folder=folder,
        path=path,
        config=config,
        tensors=tensors,
        keys=keys,
        trained_as=trained_as,
        beside=_read_beside(folder, model_type),
    )


def weights_file(folder: Path) -> Path | None:
    """Return the file with an adapter's weights, None where there is none."""
    return next((folder / n for n in (WEIGHTS_FILE, PICKLE_FILE) if (folder / n).is_file()), None)


def check_modules(files: AdapterFiles, layers: Iterable[str], model_type: str | None) -> None:
    """Verify that each layer which the adapter's config names has its update in the file.

    Args:
        files: of the adapter.
        layers: canonical names of the base's layers that can be adapted.
        model_type: the base's `config.model_type`.

    Raises:
        ValueError: an update is missing, or is of a layer that the base does not have; says how
            many and names the first.
    """
    layers = list(layers)
    surplus = sorted(set(files.trained_as).difference(layers))
    if surplus:
        raise ValueError(
            f"Adapter {files.folder} changes {files.trained_as[surplus[0]]}, which the base model "
            f"does not have ({len(surplus)} of its {len(files.trained_as)} layers are such); pass "
            "the model that it was trained on as --base_model."
        )
    missing = sorted(meant(files.config, layers, model_type).difference(files.trained_as))
    if missing:
        raise ValueError(
            f"Adapter {files.folder} lacks the updates of {len(missing)} layers that its "
            f"{CONFIG_FILE} names, {missing[0]} first; it holds {len(files.trained_as)}: copy or "
            "download it again."
        )


def check_whole_tensors(files: AdapterFiles, parameters: Collection[str]) -> None:
    """Verify that whole tensors which the adapter's config speaks of are all in the file.

    Args:
        files: of a LoRA.
        parameters: canonical names of the base's weights and biases.

    Raises:
        ValueError: some are missing; says how many and names the first.
    """
    bias, entries = files.config.get("bias", "none"), files.config.get("modules_to_save")
    wanted = {name for name in parameters if saved_whole(entries, name)}
    if bias == "all":
        wanted |= {name for name in parameters if name.endswith(".bias")}
    elif bias == "lora_only":
        wanted |= {f"{module}.bias" for module in files.trained_as}.intersection(parameters)
    missing = sorted(wanted.difference(files.tensors))
    if missing:
        raise ValueError(
            f"Adapter {files.folder} lacks {len(missing)} of the whole tensors that its "
            f"{CONFIG_FILE} speaks of (modules_to_save, bias), {missing[0]} first; "
            "copy or download it again."
        )


def change_of_base(files: AdapterFiles) -> str | None:
    """Name that by which an adapter changes weights of its base in place, if anything does.

    Such an adapter cannot be taken off again: `bias` trains the base's own, some starts of a LoRA
    take something out of the weights, and whole tensors stand in the base's place.
    """
    if files.beside:
        return "a file of whole tensors"
    if files.config.get("peft_type") != "LORA":
        return None
    if change := changing_setting(files.config):
        return change
    whole = (n for n in files.tensors if not _LORA_KEY.fullmatch(n) and "trainable_tokens" not in n)
    entries = files.config.get("modules_to_save")
    return next((name for name in whole if not saved_whole(entries, name)), None)


def _own_key(key: str) -> str:
    """Return a key of a file without what wrapped the model."""
    return _PREFIX.sub("", _WRAPPERS.sub("", key))


def _canonical_key(key: str, model_type: str | None) -> tuple[str, str | None]:
    """Return the canonical key, and of a LoRA tensor the module's name in the file."""
    if match := _LORA_KEY.fullmatch(key):
        parameter = f".{match['parameter']}" if match["parameter"] else ""
        if match["part"] == "lora_magnitude_vector":
            parameter = ""  # PEFT writes it with and without
        module = match["module"]
        return f"{canonical(module, model_type)}.{match['part']}{parameter}", module
    if match := _SAVED_KEY.fullmatch(key):
        key = f"{match['module']}.{match['parameter']}"
    return canonical(key.replace(".base_layer.", "."), model_type), None


def _read_tensors(path: Path) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        return _unpickle(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); copy or download it again.") from error


def _unpickle(path: Path) -> dict[str, "Tensor"]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and running its code is not an "
            "option; save the adapter as safetensors."
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(t, torch.Tensor) for t in content.values()
    ):
        raise ValueError(f"{path} is not a table of tensors; save the adapter as safetensors.")
    return content


def _read_beside(folder: Path, model_type: str | None) -> dict[str, "Tensor"]:
    """Return the whole tensors of the files that training scripts write beside an adapter."""
    found: dict[str, Tensor] = {}
    for path in (folder / name for name in BESIDE_FILES if (folder / name).is_file()):
        for key, tensor in _unpickle(path).items():
            _check_numbers(folder, key, tensor)
            name, module = _canonical_key(_own_key(key), model_type)
            if module is not None or name in found:
                raise ValueError(
                    f"{path} holds {key}, where whole tensors of the base are expected, each once; "
                    "take the files of one training."
                )
            found[name] = tensor
    return found


def _check_numbers(folder: Path, key: str, tensor: "Tensor") -> None:
    import torch

    usual = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    if tensor.dtype not in usual:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(
            f"Adapter {folder} holds {key} in {kind}; weights are float16, bfloat16, float32 or "
            "float64: save the adapter in one of these."
        )
    if not tensor.float().isfinite().all():  # what float64 holds may be too large for float32
        raise ValueError(
            f"Adapter {folder} has NaN or Inf in {key}: its training diverged; take an "
            "earlier checkpoint."
        )
