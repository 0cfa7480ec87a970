"""Adapters made on the spot: by PEFT on a model, or written file by file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PaliGemmaForConditionalGeneration

from tests.helpers import REPOSITORY

Q = "model.language_model.layers.0.self_attn.q_proj"  # 128 x 128 in the tiny model
KEY = f"base_model.model.{Q}"


def load_tiny() -> PaliGemmaForConditionalGeneration:
    """The embedded model in float32."""
    folder = REPOSITORY / "models" / "tiny"
    return PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def train(
    model: nn.Module, folder: Path, dtype: torch.dtype = torch.float32, **config: Any
) -> dict[str, Tensor]:
    """Save an adapter with PEFT as if it had been trained; the model is left without it.

    Returns:
        The update of each module, (d_out, d_in), as PEFT itself computes it.
    """
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:  # B starts at zero, and so does its bias
                parameter.data = (parameter + torch.randn_like(parameter) / 8).to(dtype)
    adapted.save_pretrained(folder)
    expected = deltas(adapted)
    adapted.unload()
    if hasattr(model, "peft_config"):
        del model.peft_config
    return expected


def deltas(adapted: PeftModel) -> dict[str, Tensor]:
    """The update of each adapted module, by PEFT."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().float()
        for name, module in adapted.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def write_files(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    """An adapter whose two files say just this; r is 2 and alpha 4 unless said."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    return folder


def lora(key: str = KEY, rank: int = 2, d_out: int = 3, d_in: int = 5) -> dict[str, Tensor]:
    """The two tensors of a module: lora_A counts up from 1, lora_B is all ones."""
    a = torch.arange(1.0, rank * d_in + 1).view(rank, d_in)
    return {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": torch.ones(d_out, rank)}
