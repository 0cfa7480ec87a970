"""Recomputation of activations, on every family: exact, and not of what has no gradient."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from finetuning.training.gradients import set_recomputation
from finetuning.training.lora import add_lora
from finetuning.training.loss import answer_loss
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.loading import load_model
from tests.models.examples import image
from tests.models.tiny_families import NAMES, maker


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_tower_runs_once_and_the_gradients_are_the_same(name: str, tmp_path: Path) -> None:
    maker(name)(tmp_path)
    loaded = load_model(resolve(str(tmp_path)), quantization="none", device="cpu")
    family, model = loaded.family, loaded.model
    talk = [("user", "what is it?"), ("assistant", "a red circle")]
    batch = family.collate([family.encode(image(), talk)])
    adapted = add_lora(model, family, Recipe(lora_dropout=0.0)).train()
    calls: Counter[str] = Counter()
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))

    def gradients() -> dict[str, Tensor]:
        torch.manual_seed(0)  # OPT, of BLIP-2, has dropout of its own
        calls.clear()
        adapted.zero_grad()
        answer_loss(adapted, batch, 1, "token").backward()
        return {path: p.grad for path, p in adapted.named_parameters() if p.grad is not None}

    expected, plain = gradients(), Counter(calls)
    set_recomputation(adapted, True)
    found, again = gradients(), Counter(calls)
    twice = {path for path in plain if again[path] == 2 * plain[path]}
    assert {path for path in plain if again[path] == plain[path]} == plain.keys() - twice
    layers = getattr(model.get_decoder(), "layers", [])  # one deeper in BLIP-2, which has all again
    last = len(layers) - 1  # the first that the backward pass needs
    inside = rf"{family.language_model}\.(.*\.)?layers\.(?!{last}\.)"
    assert twice == {path for path in plain if re.match(inside, path)}
    assert len(twice) > 12 and len(plain) > len(twice)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[path], expected[path]) for path in expected)
