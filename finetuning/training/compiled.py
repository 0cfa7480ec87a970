"""Decoder layers compiled for training, and run as written wherever else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from models.base import Family
from models.decoder_layers import narrowed_part

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def compile_layers(model: "PreTrainedModel", family: Family) -> None:
    """Compile each layer of the language model by itself: one small graph serves all of them.

    The last one runs as written where its feed-forward gets other positions with each batch.

    Raises:
        ValueError: the model has no such layers.
    """
    pattern = re.compile(rf"(?:.*\.)?{re.escape(family.language_model)}\.(?:.*\.)?layers\.\d+")
    layers = [layer for name, layer in model.named_modules() if pattern.fullmatch(name)]
    if not layers:
        raise ValueError(f"--compile finds no decoder layers in {family.location}; leave it out.")
    for layer in layers[:-1] if narrowed_part(model) is not None else layers:
        layer.compile()


@contextmanager
def as_written() -> Iterator[None]:
    """Run nothing compiled inside the block: each length of an answer would be compiled anew."""
    with torch.compiler.set_stance("force_eager"):
        yield
