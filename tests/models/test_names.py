"""Names of modules, against what transformers itself makes of old checkpoints."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from models.names import canonical
from tests.helpers import REPOSITORY


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "language_model.model.layers.0.self_attn.q_proj",
            "model.language_model.layers.0.self_attn.q_proj",
        ),
        ("language_model.layers.1.mlp.up_proj", "model.language_model.layers.1.mlp.up_proj"),
        (
            "vision_tower.vision_model.encoder.layers.3.mlp.fc1",
            "model.vision_tower.encoder.layers.3.mlp.fc1",
        ),
        ("vision_tower.encoder.layers.3.mlp.fc1", "model.vision_tower.encoder.layers.3.mlp.fc1"),
        (
            "model.vision_tower.vision_model.encoder.layers.3.mlp.fc1",
            "model.vision_tower.encoder.layers.3.mlp.fc1",
        ),
        ("multi_modal_projector.linear", "model.multi_modal_projector.linear"),
        ("language_model.lm_head", "lm_head"),
        ("language_model.lm_head.weight", "lm_head.weight"),
    ],
)
def test_an_old_name_becomes_the_one_in_memory(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    "name",
    [
        "lm_head",
        "model.layers.0.self_attn.q_proj",  # Qwen2, Gemma
        "model.visual.blocks.0.attn.qkv",  # Qwen2-VL
        "language_model.model.decoder.layers.0.self_attn.q_proj",  # BLIP-2
        "language_model_head.model.proj",  # no part of the name is taken for the whole
        "my.language_model.model.layers.0.proj",
    ],
)
def test_a_name_of_another_family_passes_unchanged(name: str) -> None:
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("visual.blocks.0.attn.qkv.weight", "model.visual.blocks.0.attn.qkv.weight"),
        (
            "model.layers.0.mlp.down_proj.weight",
            "model.language_model.layers.0.mlp.down_proj.weight",
        ),
        ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        ("model.norm.weight", "model.language_model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_the_files_of_qwen_vl_are_named_as_a_language_model_alone(name: str, expected: str) -> None:
    assert canonical(name, "qwen2_vl") == canonical(expected, "qwen2_5_vl") == expected
    assert canonical(name, "qwen2") == canonical(name) == name


@pytest.mark.parametrize("vision", ["vision_tower.", "vision_tower.vision_model."])
def test_transformers_loads_a_file_of_old_names_into_the_canonical_ones(
    vision: str, tmp_path: Path
) -> None:
    tiny = REPOSITORY / "models" / "tiny"
    tensors = {
        # the published PaliGemma has the tower's modules one level lower
        name.replace("vision_tower.", vision): torch.full_like(tensor, float(number))
        for number, (name, tensor) in enumerate(load_file(tiny / "model.safetensors").items())
    }
    assert len(tensors) > 90 and not any(canonical(name) == name for name in tensors)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    loaded = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    assert set(loaded) == {canonical(name) for name in tensors} | {"lm_head.weight"}
    for name, tensor in tensors.items():
        assert torch.equal(loaded[canonical(name)], tensor), name
