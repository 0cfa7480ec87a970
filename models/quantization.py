"""4-bit and 8-bit loading through bitsandbytes, and the checks that it did what was asked.

Three faults were met and are guarded against here:

- a list of modules to skip replaces transformers' default list, and its entries match from the
  start of the full name only: `["vision_tower"]` skips nothing and quantises lm_head;
- on a CPU with AVX512-BF16 one evaluation re-packs the weights, after which no gradient passes;
- on a CPU dequantisation is wrong for some widths that are not multiples of 64.
"""

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

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


def quantization_config(
    quantization: Quantization, unquantized_modules: Sequence[str], dtype: "torch.dtype"
) -> Any:
    """The `BitsAndBytesConfig` for `from_pretrained`, or None."""
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
    """Full name -> layer, for each layer that bitsandbytes holds in 4 or 8 bits."""
    import bitsandbytes as bnb

    kinds = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def count_by_part(names: Sequence[str]) -> dict[str, int]:
    """How many of the layers lie in each part: `model.language_model.layers.0…` counts once there.

    The part is the name down to the module under `model`, or the top one (lm_head).
    """
    return dict(Counter(".".join(name.split(".")[:2]) for name in names))


def prepare_quantized(model: Any, unquantized_modules: Sequence[str]) -> dict[str, int]:
    """Apply the CPU guards to a model just loaded and verify what was quantised.

    Returns:
        part of the model -> number of quantised layers in it.

    Raises:
        RuntimeError: nothing, or something that must not be, was quantised; or a layer does not
            come back from 4 bits as it went in.
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
    checked: set[tuple[int, int]] = set()
    for name, layer in layers.items():
        if not isinstance(layer, bnb.nn.Linear4bit):
            continue
        # otherwise the first evaluation on such a CPU re-packs the weights for good
        layer.support_avx512bf16_for_cpu = False
        shape = (layer.in_features, layer.out_features)
        if shape not in checked:
            checked.add(shape)
            error = round_trip_error(layer)
            if error > MAX_ROUND_TRIP_ERROR:
                raise RuntimeError(
                    f"4-bit layer {name} ({layer.in_features} to {layer.out_features} features) "
                    f"is dequantised with a relative error of {error:.2f} where "
                    f"{MAX_ROUND_TRIP_ERROR} is the most; this bitsandbytes is not usable on "
                    f"{layer.weight.device}: pass --quantization none."
                )
    return count_by_part(list(layers))


def round_trip_error(layer: Any) -> float:
    """Relative Frobenius error of one more trip of the layer's weight through NF4.

    The stored weight lies on the NF4 grid already, so a right kernel gives nearly 0.
    """
    import bitsandbytes.functional as bnb

    weight = bnb.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    data, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    again = bnb.dequantize_4bit(data, state).float()
    return float((again - weight).norm() / weight.norm().clamp_min(1e-12))
