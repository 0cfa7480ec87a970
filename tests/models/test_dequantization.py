"""4-bit layers that are decoded once for an evaluation on a CPU: the same numbers, to the bit."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest import mock

import bitsandbytes as bnb
import psutil
import pytest
import torch

from finetuning.training.lora import add_lora
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.loading import Dtype, load_model
from models.quantization import dequantized_on_cpu
from tests.models.examples import image


def fail(*_: Any, **__: Any) -> None:
    raise AssertionError("a layer was decoded again")


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_decoded_once_a_model_computes_the_same_and_is_left_as_it_was(
    dtype: Dtype, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_model(resolve("tiny"), quantization="nf4", dtype=dtype, device="cpu")
    add_lora(loaded.model, loaded.family, Recipe(lora_target_modules="all-linear"))
    batch = loaded.family.collate([loaded.family.encode(image(), [("user", "what is it?")])])
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    layer = next(m for m in loaded.model.modules() if isinstance(m, bnb.nn.Linear4bit))

    def logits() -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = loaded.model(**inputs).logits
            return found

    caplog.set_level(logging.DEBUG, "models")
    before = logits()
    with dequantized_on_cpu(loaded.model), mock.patch.object(bnb, "matmul_4bit", fail):
        assert torch.equal(logits(), before)
        one = torch.randn(1, 1, layer.in_features, dtype=loaded.model.dtype)
        decoded = layer(one)
    assert torch.equal(layer(one), decoded)
    assert "28 layers are decoded from 4 bits once" in caplog.text
    assert "forward" not in vars(layer) and torch.equal(logits(), before)


def test_without_memory_to_spare_layers_stay_in_4_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(resolve("tiny"), quantization="nf4", device="cpu")
    layers = [m for m in loaded.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    size = sum(4 * layer.in_features * layer.out_features for layer in layers)
    for free, is_decoded in ((2 * size - 1, False), (2 * size, True)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free)
        )
        with dequantized_on_cpu(loaded.model):
            assert all(("forward" in vars(layer)) == is_decoded for layer in layers)
