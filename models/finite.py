"""Weights that are numbers: NaN and infinity are found before they spoil what is computed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def not_finite(tensors: Mapping[str, "Tensor"]) -> list[str]:
    """Return the names of the tensors that hold NaN or an infinity; one look at the device."""
    import torch

    floating = {name: t for name, t in tensors.items() if t.is_floating_point() and not t.is_meta}
    if not floating:
        return []
    device = next(iter(floating.values())).device
    # the sum is finite where all are, or overflows: then each element is looked at
    sums = torch.stack([t.sum(dtype=torch.float32).to(device) for t in floating.values()])
    doubtful = [n for n, ok in zip(floating, torch.isfinite(sums).tolist(), strict=True) if not ok]
    return [name for name in doubtful if not torch.isfinite(floating[name]).all()]


def check_base(model: Any, base: str) -> None:
    """Verify that the weights of a model just loaded are numbers, those in 4 bits included.

    Raises:
        ValueError: some are NaN or infinite; names the first.
    """
    from models.quantization import quantized_layers

    scales: dict[str, Any] = {}
    for name, layer in quantized_layers(model).items():
        state = getattr(layer.weight, "quant_state", None)
        # of each block in 4 bits; of blocks of scales, and what is added to them; of a row in 8
        for part in (
            getattr(state, "absmax", None),
            getattr(getattr(state, "state2", None), "absmax", None),
            getattr(state, "offset", None),
            getattr(layer.weight, "SCB", None),
        ):
            if part is not None:
                scales[f"{name}.weight, scale {len(scales)}"] = part
    found = not_finite(dict(model.named_parameters()) | scales)
    if found:
        raise ValueError(
            f"The weights of {base} hold NaN or infinity in {len(found)} tensors, {found[0]} "
            "first; copy or download them again, or take another precision by --dtype."
        )
