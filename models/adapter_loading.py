"""An adapter put on a model, whole: each tensor of its files has its place, or it is refused."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.adapter_files import (
    AdapterFiles,
    change_of_base,
    check_modules,
    check_whole_tensors,
    read_adapter_files,
)
from models.adapter_targets import by_pattern, exact_pattern, targeted
from models.names import canonical

FIRST = "default"  # PEFT's name of an adapter that is given none

# what PEFT can put a LoRA on; the layers of bitsandbytes are linear layers too
_ADAPTABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def check_adapter(model: Any, folder: Path) -> AdapterFiles:
    """Read the adapter of a folder and verify that all of it has a place in a model.

    Args:
        model: the base; it may be without weights.
        folder: with adapter_config.json and the weights.

    Raises:
        ValueError: something of the adapter has no place in the model, or a part of it is missing.
    """
    files = read_adapter_files(folder, str(model.config.model_type))
    parameters = _parameters(model)
    if files.config.get("peft_type") == "LORA":
        check_modules(files, _layers(model), str(model.config.model_type))
        check_whole_tensors(files, parameters)
    else:
        _check_prompt(files)
    _check_vocabulary(files, parameters)
    for name, tensor in files.beside.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ValueError(
                f"{folder} has a file of whole tensors beside the adapter, and {name} "
                f"{tuple(tensor.shape)} is no tensor of the base model; pass the base that it was "
                "trained on, or remove the file if the adapter is to be used alone."
            )
    return files


def put_adapter(model: Any, folder: Path, *, is_trainable: bool = False) -> Any:
    """Put the adapter of a folder on a base model.

    Args:
        model: the base, loaded by transformers.
        folder: with adapter_config.json and the weights.
        is_trainable: whether the adapter will be trained further.

    Returns:
        The `PeftModel`.

    Raises:
        ValueError: something of the adapter has no place in the model, or a part of it is missing.
    """
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel

    files = check_adapter(model, folder)
    config = _read_config(model, files)
    config.inference_mode = not is_trainable
    parameters = _parameters(model)
    with torch.no_grad():
        for name, tensor in files.beside.items():
            parameters[name].copy_(tensor)
    kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
    with _explained(folder):
        adapted = kind(model, config)
    _fill(adapted, files, FIRST)
    return adapted


def put_beside(adapted: Any, folder: Path, name: str, empty_model: Any) -> None:
    """Put another adapter beside those of a model; it answers after `set_adapter(name)`.

    Args:
        adapted: the `PeftModel`.
        folder: with adapter_config.json and the weights.
        name: of the adapter in the model.
        empty_model: the base as it is without adapters; it may be without weights.

    Raises:
        ValueError: as `put_adapter`; or the adapter, or one there, changes the base in place, or
            is of another kind.
    """
    files = check_alone_on_base(empty_model, folder)
    config = _read_config(empty_model, files)
    config.inference_mode = True
    if config.peft_type != adapted.peft_config[FIRST].peft_type:
        raise ValueError(
            f"Adapter {folder} is of type {files.config.get('peft_type')}, and the first one is "
            "not: one base takes adapters of one type at a time."
        )
    with _explained(folder):
        adapted.add_adapter(name, config)
    _fill(adapted, files, name)


def check_alone_on_base(model: Any, folder: Path) -> AdapterFiles:
    """Verify, as `check_adapter`, an adapter that must leave its base as it is.

    Raises:
        ValueError: it changes weights of the base, which then answers otherwise without it.
    """
    files = check_adapter(model, folder)
    if change := change_of_base(files):
        raise ValueError(
            f"Adapter {folder} changes weights of the base model itself ({change}), so that it "
            "cannot share one with others; ask it alone."
        )
    return files


def _read_config(model: Any, files: AdapterFiles) -> Any:
    """Read PEFT's config of an adapter, for the layers of a model without adapters."""
    from peft import PeftConfig

    with _explained(files.folder):
        config = PeftConfig.from_pretrained(str(files.folder))
    if files.config.get("peft_type") == "LORA":
        _take_names_of_now(config, files, model)
    return config


def _fill(adapted: Any, files: AdapterFiles, name: str) -> None:
    """Put the tensors of the files into the adapter of this name."""
    from peft.utils.save_and_load import set_peft_model_state_dict

    folder = files.folder
    places = set(adapted.state_dict())
    state = {_place(key, places): tensor for key, tensor in files.tensors.items()}
    try:
        result = set_peft_model_state_dict(adapted, state, adapter_name=name)
    except KeyError as error:  # PEFT looks for each parameter of a module to save
        raise ValueError(
            f"Adapter {folder} lacks {error.args[0]}, of a module that its config saves whole; "
            "copy or download it again."
        ) from error
    except RuntimeError as error:  # sizes differ
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(f"{_misfit(folder, adapted)}: {reason}.") from error
    own = {
        key
        for key, _ in adapted.named_parameters()
        if f".{name}." in f"{key}." and ".ranknum." not in key  # AdaLoRA's rank is never saved
    }
    for found, problem in (
        (sorted(result.unexpected_keys), "the base has no place for"),
        (sorted(own.intersection(result.missing_keys)), "the file has no values for"),
    ):
        if found:
            raise ValueError(
                f"{_misfit(folder, adapted)}: {problem} {len(found)} tensors, {found[0]} first."
            )


def why_not_without(folder: Path) -> str | None:
    """Return why the base of an adapter cannot be had by leaving the adapter out, if it cannot.

    Args:
        folder: with adapter_config.json and the weights.
    """
    change = change_of_base(read_adapter_files(folder))
    return change and f"the adapter changes weights of its base ({change})"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say of which adapter PEFT's own complaint in the block is."""
    try:
        yield
    except (KeyError, NotImplementedError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ValueError(
            f"PEFT does not take adapter {folder} ({reason}); save it anew with PEFT, or correct "
            "its adapter_config.json."
        ) from error


def _misfit(folder: Path, model: Any) -> str:
    return (
        f"Adapter {folder} does not fit base model {model.config.name_or_path}; pass the one that "
        "it was trained on as --base_model"
    )


def _place(name: str, places: Collection[str]) -> str:
    """Return the key of a tensor in a model with the adapter, whose layers are wrapped."""
    key = f"base_model.model.{name}"
    module, _, parameter = key.rpartition(".")
    inside = f"{module}.base_layer.{parameter}"
    return inside if inside in places and key not in places else key


def _parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return the parameters by name, one that two layers share under both."""
    return dict(model.named_parameters(remove_duplicate=False))


def _layers(model: Any) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _ADAPTABLE)]


def _take_names_of_now(config: Any, files: AdapterFiles, model: Any) -> None:
    """Rewrite a config that was written with former names, for the layers that the file is of."""
    now, model_type = files.trained_as, str(model.config.model_type)
    if config.modules_to_save:
        modules = [name for name, _ in model.named_modules()]
        config.modules_to_save = [
            entry if any(name.endswith(entry) for name in modules) else canonical(entry, model_type)
            for entry in config.modules_to_save
        ]
    if targeted(files.config, _layers(model)) != set(now):
        config.target_modules = exact_pattern(now)
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
    if all(name == then for name, then in now.items()):
        return
    for option in ("rank_pattern", "alpha_pattern"):
        pattern = getattr(config, option)
        values = {name: by_pattern(pattern, then, None) for name, then in now.items()}
        exact = {re.escape(name): value for name, value in values.items() if value is not None}
        setattr(config, option, exact)


def _check_prompt(files: AdapterFiles) -> None:
    """Refuse what PEFT puts before the tokens: here a family alone says what stands where."""
    from peft import PeftConfig

    with _explained(files.folder):
        config = PeftConfig.from_pretrained(str(files.folder))
    if config.is_prompt_learning:
        raise ValueError(
            f"Adapter {files.folder} is of type {files.config['peft_type']}, which learns a prompt "
            "and no layers, and cannot be used here; take one of layers, such as LORA or IA3."
        )


def _check_vocabulary(files: AdapterFiles, parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuse embeddings of another number of tokens: the base would have to be enlarged first."""
    for name, tensor in files.tensors.items():
        is_vocabulary = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        if is_vocabulary and name in parameters:  # what the base lacks is found when it is put on
            rows = len(parameters[name])
            if len(tensor) != rows:
                raise ValueError(
                    f"Adapter {files.folder} was trained with {len(tensor)} token embeddings "
                    f"({name}), and the base model has {rows}; save the base with its embeddings "
                    "resized to that number and pass it as --base_model."
                )
