"""From a checkpoint to a model that can be trained or asked, in the wished precision."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.progress import is_drawing
from models.adapter_files import PICKLE_FILE, WEIGHTS_FILE, weights_file
from models.base import Family
from models.checkpoint import Checkpoint, run_folder_of, typed_name
from models.finite import check_base
from models.quantization import (
    Quantization,
    check_quantization,
    prepare_quantized,
    quantization_config,
)
from models.text_tokens import check_rows
from models.whole_weights import INDEX, load_whole, read_index

logger = logging.getLogger(__name__)

Dtype = Literal["auto", "bf16", "fp16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model with its family and what was found out on the way."""

    model: Any
    family: Family
    checkpoint: Checkpoint
    quantized: dict[str, int]  # part of the model -> number of quantised layers


def load_family(checkpoint: Checkpoint) -> Family:
    """Load the family with the checkpoint's processor, and no weight.

    The processor beside an adapter is preferred: it is the one that the training used.

    Raises:
        ValueError: an option has no meaning for it, or a family that was named does not fit.
    """
    announce_libraries()
    if checkpoint.model_type in checkpoint.family.model_types:
        family = _make_family(checkpoint)
    else:
        family = _try_family(checkpoint)
    if family.image_options:  # how many tokens an image is depends on its shape and on options
        logger.info("an image of 640 x 480 is %d tokens", family.count_image_tokens(640, 480))
    return family


def _make_family(checkpoint: Checkpoint) -> Family:
    adapter = None if checkpoint.adapter is None else run_folder_of(checkpoint.adapter)
    names = ("processor_config.json", "preprocessor_config.json")
    has_own = adapter is not None and any((adapter / name).is_file() for name in names)
    return checkpoint.family(
        checkpoint.base,
        checkpoint.revision,
        saved=str(adapter) if has_own else None,
        options=checkpoint.options,
    )


def _try_family(checkpoint: Checkpoint) -> Family:
    """A family that the config.json does not name, if what it needs of the checkpoint is there."""
    try:
        family = _make_family(checkpoint)
        _ = (
            family.config,
            family.count_image_tokens(640, 480),
            family.num_layout_tokens,
            family.end_ids,
        )
        family.empty_model.get_submodule(family.language_model)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{checkpoint.base}, a model of type '{checkpoint.model_type}', cannot be fed as "
            f"{checkpoint.family.name} ({reason}); name another family by --model_type, or none."
        ) from error
    return family


def load_model(
    checkpoint: Checkpoint,
    *,
    quantization: Quantization,
    dtype: Dtype = "auto",
    device: str = "auto",
    family: Family | None = None,
    beside: Mapping[str, Path] = {},
) -> LoadedModel:
    """Load the base in the wished precision, and its adapter on top.

    Args:
        checkpoint: the model.
        quantization: precision of its language model.
        dtype: precision of the rest.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        family: feeds it; None loads the checkpoint's.
        beside: name -> folder of further adapters, put beside the checkpoint's.

    Raises:
        ValueError: device or bitsandbytes absent, the checkpoint is not whole, the tokenizer has
            tokens without a row in the model, or the adapter does not fit the base.
        RuntimeError: the model was not quantised as asked (see models/quantization.py).
    """
    check_quantization(quantization, checkpoint.stored_in, checkpoint.base)
    torch_device = choose_device(device)
    torch_dtype = choose_dtype(dtype, torch_device)
    family = family or load_family(checkpoint)
    check_weights(checkpoint)
    check_rows(family.tokenizer, family.config, checkpoint.base)
    if checkpoint.adapter is not None:
        from models.adapter_loading import check_adapter, put_adapter, put_beside

        check_adapter(family.empty_model, checkpoint.adapter)  # before the base is loaded for it
    logger.info("loading the weights of %s", typed_name(checkpoint.base))
    config = quantization_config(quantization, family.unquantized_modules, torch_dtype)
    with _one_bar_at_a_time():
        model = load_whole(
            family.model_class,
            checkpoint.base,
            is_unused=family.is_unused,
            revision=checkpoint.revision,
            trust_remote_code=checkpoint.options.trust_remote_code,
            dtype=torch_dtype,
            quantization_config=config,
            device_map={"": torch_device},
        )
    check_base(model, checkpoint.base)
    model.generation_config = _plain_generation(model, family)
    quantized = prepare_quantized(model, family.unquantized_modules) if config else {}
    for part, count in quantized.items():
        logger.info("%d layers of %s are held in %s", count, part, quantization)
    if checkpoint.adapter is not None:
        model = put_adapter(model, checkpoint.adapter)
        for name, folder in beside.items():
            put_beside(model, folder, name, family.empty_model)
    return LoadedModel(
        model=model.eval(), family=family, checkpoint=checkpoint, quantized=quantized
    )


def _plain_generation(model: Any, family: Family) -> Any:
    """When to stop, and nothing else of the checkpoint's generation_config.json.

    A repetition penalty or sampling there would make a score that of a file beside the model.
    """
    from transformers import GenerationConfig

    known = model.generation_config.eos_token_id
    ends = known if isinstance(known, list) else [] if known is None else [known]
    return GenerationConfig(
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=list(dict.fromkeys([*family.end_ids, *ends])),
        pad_token_id=family.padding_id,
    )


def check_device(device: str) -> None:
    """Raise ValueError where a GPU is asked for and PyTorch sees none; `auto` always passes."""
    if device != "auto":
        announce_libraries()
        choose_device(device)


def announce_libraries() -> None:
    """Say that the libraries are being loaded, which takes seconds, where they are not yet."""
    if "torch" not in sys.modules:
        logger.info("loading PyTorch and transformers")


def choose_device(device: str) -> str:
    """Choose the device: `auto` is the first GPU (under torchrun the process's own), or the CPU."""
    import torch

    num_gpus = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if num_gpus else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    kind, _, index = device.partition(":")
    if kind == "cuda" and index.isdigit() and int(index) >= num_gpus:
        raise ValueError(
            f"--device {device} asks for an NVIDIA GPU, and PyTorch {torch.__version__} sees "
            f"{num_gpus}; pass --device cpu, or install a CUDA build of PyTorch and a driver."
        )
    if kind == "cuda" and "LOCAL_RANK" in os.environ and index != os.environ["LOCAL_RANK"]:
        raise ValueError(
            f"Under torchrun each process has its own GPU: pass --device cuda, not {device}."
        )
    if device != "cpu" and not (kind == "cuda" and index.isdigit()):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {device}.")
    return device


def choose_dtype(dtype: Dtype, device: str) -> Any:
    """Choose the dtype: `auto` is fp32 on a CPU, bf16 on a GPU that has it, fp16 on another one."""
    import torch

    if dtype == "auto":
        if not device.startswith("cuda"):
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]


@contextmanager
def _one_bar_at_a_time() -> Iterator[None]:
    """Let the library's bar of loaded weights vanish when full; beside one of ours it is off."""
    from transformers.utils import logging as library

    def make_bar(make: Any, arguments: Any, settings: dict[str, Any]) -> Any:
        is_disabled = is_drawing() or settings.get("disable")
        return make(*arguments, **{**settings, "leave": False, "disable": is_disabled})

    before = library.set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        library.set_tqdm_hook(before)


def check_weights(checkpoint: Checkpoint) -> None:
    """Raise ValueError where a folder, of base or adapter, has no weights, or no true index."""
    base = Path(checkpoint.base)
    names = ("*.safetensors", "pytorch_model*.bin")
    if base.is_dir() and not any(file for name in names for file in base.glob(name)):
        raise ValueError(
            f"{base} holds no weights (*.safetensors or pytorch_model*.bin); copy or download "
            "them into it, beside its config.json."
        )
    if (base / INDEX).is_file():
        read_index(base / INDEX)
    if checkpoint.adapter is not None:
        check_adapter_weights(checkpoint.adapter)


def check_adapter_weights(adapter: Path) -> None:
    """Raise ValueError where an adapter's folder holds no weights."""
    if weights_file(adapter) is None:
        raise ValueError(
            f"Adapter {adapter} holds no weights ({WEIGHTS_FILE} or {PICKLE_FILE}); copy or "
            "download them into it, beside its adapter_config.json."
        )
