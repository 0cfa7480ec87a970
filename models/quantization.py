"""4-bit and 8-bit loading through bitsandbytes, and the checks that it did what was asked.

Three faults were met and are guarded against here:

- a list of modules to skip replaces transformers' default list, and its entries match from the
  start of the full name only: `["vision_tower"]` skips nothing and quantises lm_head;
- on a CPU with AVX512-BF16 one evaluation re-packs the weights, after which no gradient passes;
- on a CPU dequantisation is wrong for some widths that are not multiples of 64.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = logging.getLogger(__name__)

Quantization = Literal["nf4", "int8", "none"]

# NF4 on normally distributed weights gives about 0.092; broken kernels were seen at 0.20 to 0.40.
MAX_ROUND_TRIP_ERROR = 0.12


def check_available(quantization: Quantization) -> None:
    """Raise ValueError where bitsandbytes is needed and absent."""
    if quantization != "none" and find_spec("bitsandbytes") is None:
        raise ValueError(
            f"--quantization {quantization} needs bitsandbytes, which is not installed; "
            "run `pip install bitsandbytes`, or pass --quantization none."
        )


def stored_quantization(config: Mapping[str, Any]) -> str | None:
    """Return how a checkpoint's weights are stored: `nf4`, `int8`, another method's name, or None.

    Args:
        config: the content of config.json.

    Raises:
        ValueError: it says so in another form.
    """
    text_config = config.get("text_config") or {}
    stored = config.get("quantization_config") or text_config.get("quantization_config")
    if not stored:
        return None
    if not isinstance(stored, dict):
        raise ValueError(
            f"The model's config.json has {stored!r} as quantization_config, where an object is "
            "expected; copy or download it again."
        )
    method = str(stored.get("quant_method", "an unknown method"))
    if method == "bitsandbytes" and stored.get("load_in_8bit"):
        return "int8"
    if method == "bitsandbytes" and stored.get("load_in_4bit"):
        return str(stored.get("bnb_4bit_quant_type", "fp4"))
    return method


def check_quantization(quantization: Quantization, stored: str | None, base: str) -> None:
    """Refuse a precision that a base cannot be held in, before it is loaded.

    Args:
        quantization: the one asked for.
        stored: what `stored_quantization` says of the base.
        base: its name.

    Raises:
        ValueError: bitsandbytes is absent, or the weights are stored in another precision.
    """
    check_available(quantization)
    if stored is not None and stored not in get_args(Quantization):
        raise ValueError(
            f"The weights of {base} are stored in {stored} (by its config.json), which cannot be "
            "trained or scored here; take the model's unquantised weights, or bitsandbytes ones "
            "in nf4 or int8."
        )
    if stored is not None and quantization != stored:
        raise ValueError(
            f"The weights of {base} are stored in {stored} (by its config.json) and can be held "
            f"in nothing else; pass --quantization {stored}, or the model's unquantised weights."
        )


def quantization_config(
    quantization: Quantization, unquantized_modules: Sequence[str], dtype: "torch.dtype"
) -> Any:
    """Return the `BitsAndBytesConfig` for `from_pretrained`, or None."""
    from transformers import BitsAndBytesConfig

    if quantization == "none":
        return None
    skipped = list(unquantized_modules)
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,
    )


def quantized_layers(model: Any) -> dict[str, Any]:
    """Map the full name of each layer that bitsandbytes holds in 4 or 8 bits to the layer."""
    import bitsandbytes as bnb

    kinds = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def count_by_part(names: Sequence[str]) -> dict[str, int]:
    """Count the layers of each part; `model.language_model.layers.0…` counts once there.

    The part is the name down to the module under `model`, or the top one (lm_head).
    """
    return dict(Counter(".".join(name.split(".")[:2]) for name in names))


def parameter_bytes(model: Any) -> int:
    """Return the bytes of all weights and buffers, the scales of quantised ones among them."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    for weight in model.parameters():
        state = getattr(weight, "quant_state", None)
        scales = () if state is None else state.as_dict(packed=True).values()
        tensors += [scale for scale in scales if isinstance(scale, torch.Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def prepare_quantized(model: Any, unquantized_modules: Sequence[str]) -> dict[str, int]:
    """Apply the CPU guards to a model just loaded and verify what was quantised.

    Returns:
        part of the model -> number of quantised layers in it.

    Raises:
        RuntimeError: nothing, or something that must not be, was quantised; or a layer does not
            come back from 4 bits nearly as it went in.
    """
    import bitsandbytes as bnb

    layers = quantized_layers(model)
    wrong = [name for name in layers if name.startswith(tuple(unquantized_modules))]
    if wrong or not layers:
        found = ", ".join(wrong[:5]) or "no layer at all"
        raise RuntimeError(
            f"Quantisation reached {found}; it should have reached the language model alone. "
            "Please report this with the versions of transformers and bitsandbytes."
        )
    in_4_bits = {n: layer for n, layer in layers.items() if isinstance(layer, bnb.nn.Linear4bit)}
    for layer in in_4_bits.values():
        # otherwise the first evaluation on such a CPU re-packs the weights for good
        layer.support_avx512bf16_for_cpu = False
    for width, device in {(la.in_features, la.weight.device) for la in in_4_bits.values()}:
        error = round_trip_error(width, device)
        if error > MAX_ROUND_TRIP_ERROR:
            raise RuntimeError(
                f"Weights of {width} input features come back from NF4 with a relative error of "
                f"{error:.2f} on {device}, {MAX_ROUND_TRIP_ERROR} is the most: this bitsandbytes "
                "cannot be used there; pass --quantization none."
            )
    return count_by_part(list(layers))


@contextmanager
def replaced_forward(layer: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a layer compute otherwise inside the block."""
    before = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


@contextmanager
def dequantized_on_cpu(model: Any) -> Iterator[None]:
    """Hold the 4-bit layers of a model on a CPU in full inside the block, where memory allows.

    bitsandbytes decodes a whole layer for each token that is written there. The layers compute
    with the very values that it decodes, once; the 4-bit ones stay beside them. More than half of
    the memory that is free is never taken. What a block around this one holds stays as it is.
    """
    layers = _cpu_layers_in_4_bits(model)
    size = sum(la.in_features * la.out_features * la.compute_dtype.itemsize for la in layers)
    if not layers or size > _free_memory() // 2:
        yield
        return
    logger.debug("%d layers are decoded from 4 bits once, for %.1f GB", len(layers), size / 1e9)
    with ExitStack() as stack:
        for layer in layers:
            full = partial(_forward_in_full, layer, _decoded(layer))
            stack.enter_context(replaced_forward(layer, full))
        yield


def _cpu_layers_in_4_bits(model: Any) -> list[Any]:
    if model.device.type != "cpu" or find_spec("bitsandbytes") is None:
        return []
    import bitsandbytes as bnb

    found = [layer for layer in model.modules() if isinstance(layer, bnb.nn.Linear4bit)]
    return [la for la in found if la.compute_dtype is not None and "forward" not in vars(la)]


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _decoded(layer: Any) -> "Tensor":
    """Return a layer's weights (out, in) as its kernel decodes them."""
    import bitsandbytes.functional as bnb

    weight = bnb.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    decoded: Tensor = weight.to(layer.compute_dtype)
    return decoded


def _forward_in_full(layer: Any, weight: "Tensor", inputs: "Tensor") -> "Tensor":
    """Compute what the 4-bit layer does, in its precision."""
    from torch.nn.functional import linear

    bias = None if layer.bias is None else layer.bias.to(weight.dtype)
    return linear(inputs.to(weight.dtype), weight, bias).to(inputs.dtype)


def round_trip_error(width: int, device: Any = "cpu") -> float:
    """Compute the relative Frobenius error that NF4 adds to normal weights of (64, width).

    The kernels' faults depend on the width alone, so a probe of it stands for every layer.
    """
    import bitsandbytes.functional as bnb
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, width, generator=generator).to(device)
    data, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return float((bnb.dequantize_4bit(data, state) - weight).norm() / weight.norm())
