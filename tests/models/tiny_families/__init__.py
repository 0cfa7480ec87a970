"""Tiny random checkpoints, one module a family: `make(folder)` saves one as the real ones lie.

A module that is put here is found: every test of `test_families.py` then runs on it.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from tests.helpers import REPOSITORY

NAMES = tuple(module.name for module in iter_modules(__path__))
TINY = REPOSITORY / "models" / "tiny"  # whose words the tokenizers have


def maker(name: str) -> Callable[[Path], None]:
    """What saves the checkpoint of a family."""
    make: Callable[[Path], None] = import_module(f"{__name__}.{name}").make
    return make


def draw_weights(model: Any, seed: int = 0) -> None:
    """Random weights under which logits differ: the library's 0.02 leaves all nearly equal."""
    import torch

    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, std=0.02 if "embed_tokens" in name else 0.15)


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def decoder(tokenizer: Any, model_type: str, **more: Any) -> dict[str, Any]:
    """The config of a language model with this tokenizer's words and special tokens."""
    return {
        "model_type": model_type,
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "num_key_value_heads": 1,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **SIZES,
        **more,
    }


def clip_tower(image_size: int, patch_size: int) -> dict[str, Any]:
    """The config of CLIP's tower."""
    return {
        "model_type": "clip_vision_model",
        "image_size": image_size,
        "patch_size": patch_size,
        "projection_dim": 64,
        **SIZES,
    }


def save_model(folder: Path, model: Any, *parts: Any) -> None:
    """Save a model under random weights, and the parts that feed it."""
    draw_weights(model)
    for part in (model, *parts):
        part.save_pretrained(folder)
