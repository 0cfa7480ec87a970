"""Tiny random checkpoints, one module a family: `make(folder)` saves one as the real ones lie.

A module that is put here is found: every test of `test_families.py` then runs on it.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from tests.conftest import REPOSITORY

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
