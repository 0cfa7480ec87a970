"""Helpers of the tests that export full models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor

from merging.algebra.base import open_base
from merging.algebra.full_model import ExportReport, export_full

Q_PROJ = "model.language_model.layers.0.self_attn.q_proj"


FC1 = "model.vision_tower.encoder.layers.0.mlp.fc1"


Q_PROJ_ON_DISK = "language_model.model.layers.0.self_attn.q_proj.weight"


BIAS = "model.multi_modal_projector.linear.bias"


def nothing(_: str) -> None:
    return None


def random_updates(base: str, *modules: str, scale: float = 0.01) -> dict[str, Tensor]:
    shapes = open_base(base).shapes()
    generator = torch.Generator().manual_seed(1)
    return {name: scale * torch.randn(shapes[name], generator=generator) for name in modules}


def raw(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Dtype, shape and bytes of each tensor, read by the format's own library."""
    return {
        name: (entry["dtype"], entry["shape"], bytes(entry["data"]))
        for name, entry in safetensors.deserialize(path.read_bytes())
    }


def load(folder: Path) -> Any:
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logits(model: Any) -> Tensor:
    text = model.config.text_config
    image = [model.config.image_token_id] * text.num_image_tokens
    ids = torch.tensor([[*image, 2, 300, 301, 302]])
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    types = torch.zeros_like(ids)
    return model(input_ids=ids, pixel_values=pixels, token_type_ids=types).logits


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("out"))


def refused(
    base: Path, out: Path, message: str, delta: Callable[[str], Any] = nothing, **options: Any
) -> ExportReport | None:
    with pytest.raises(ValueError, match=message) as caught:
        export_full(open_base(str(base)), out, delta, **options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert leftovers(out.parent) == []
    return None
