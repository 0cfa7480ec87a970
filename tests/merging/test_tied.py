"""Adapters of an output layer that shares its weights with the embeddings, as `tiny` has it."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from tests.helpers import sentence
from tests.merging.algebra.make_adapters import load_tiny
from tests.merging.merge_inputs import run, write_adapter

SAID = "ties lm_head to embed_tokens, so that it would change both; leave that module out."


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the output layer a has a LoRA, b nothing, c a whole copy."""
    folder = tmp_path_factory.mktemp("adapters")
    write_adapter(folder / "a", r=2, lora_alpha=4, target_modules=["q_proj", "lm_head"])
    write_adapter(folder / "b", r=2, lora_alpha=4, target_modules=["q_proj"])
    saved = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    write_adapter(folder / "c", r=2, lora_alpha=4, **saved)
    return folder


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("ab", ("--mode", "ties")),
        ("ab", ("--mode", "linear", "--export", "full")),
        ("ab", ("--mode", "linear", "--export", "both")),
        ("ab", ("--mode", "linear", "--evaluate", "digits")),  # scored by adding to the weights
        ("a", ()),
        ("cb", ("--mode", "linear")),
    ],
)
def test_what_would_change_both_is_refused_for_that(
    names: str, options: tuple[str, ...], adapters: Path, tmp_path: Path
) -> None:
    result = run(adapters, tmp_path / "out", *options, names=names)
    message = sentence(result.exit_code, result.output)
    assert message.startswith("The update of lm_head cannot be exported: ") and SAID in message
    assert not [*tmp_path.iterdir()]


def test_an_adapter_can_change_the_output_layer_alone(adapters: Path, tmp_path: Path) -> None:
    result = run(adapters, tmp_path / "out", "--mode", "linear")
    assert result.exit_code == 0, result.output
    updates = []
    for folder in (adapters / "a", tmp_path / "out"):
        adapted = PeftModel.from_pretrained(load_tiny(), str(folder))
        layer = adapted.base_model.model.get_submodule("lm_head")
        updates.append(layer.get_delta_weight("default"))
    assert updates[0].any()
    torch.testing.assert_close(updates[1], updates[0] / 2, rtol=1e-5, atol=1e-6)
