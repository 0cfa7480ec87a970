"""The base folder as the headers of its shards describe it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.algebra.base import Base, open_base
from models.checkpoint import TINY

# The names that PaliGemma's Hub repository has on disk, of one module each.
FIRST = {
    "language_model.model.embed_tokens.weight": (24, 16),
    "language_model.model.layers.0.self_attn.q_proj.weight": (8, 16),
    "language_model.model.layers.0.input_layernorm.weight": (16,),
}
SECOND = {
    "language_model.model.layers.0.mlp.down_proj.weight": (16, 32),
    "multi_modal_projector.linear.bias": (16,),
    "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight": (32, 16),
    "vision_tower.vision_model.embeddings.patch_embedding.weight": (4, 3, 2, 2),
}
CANONICAL = {
    "model.language_model.embed_tokens.weight",
    "model.language_model.layers.0.self_attn.q_proj.weight",
    "model.language_model.layers.0.input_layernorm.weight",
    "model.language_model.layers.0.mlp.down_proj.weight",
    "model.multi_modal_projector.linear.bias",
    "model.vision_tower.encoder.layers.0.mlp.fc1.weight",
    "model.vision_tower.embeddings.patch_embedding.weight",
}
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def random_tensors(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def write_sharded(folder: Path, **config: Any) -> dict[str, Tensor]:
    """A base of two shards, the first in bfloat16, the second in float32 with one integer."""
    shards = (random_tensors(FIRST, torch.bfloat16), random_tensors(SECOND, torch.float32))
    shards[1]["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(4)[None]
    folder.mkdir()
    weight_map = {}
    for name, tensors in zip(SHARDS, shards, strict=True):
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {"model_type": "paligemma", "tie_word_embeddings": True, **config}
    (folder / "config.json").write_text(json.dumps(config))
    return shards[0] | shards[1]


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_sharded(tmp_path / "base")
    return tmp_path / "base"


def test_tensors_of_all_shards_are_found_by_canonical_name(sharded: Path) -> None:
    base = open_base(str(sharded))
    integer = "model.vision_tower.embeddings.position_ids"
    assert set(base.tensors) == CANONICAL | {integer}
    tensor = base.tensors["model.language_model.layers.0.mlp.down_proj.weight"]
    assert tensor.stored_name == "language_model.model.layers.0.mlp.down_proj.weight"
    assert (tensor.dtype, tensor.shape, tensor.path.name) == ("F32", (16, 32), SHARDS[1])
    assert base.tensors[integer].dtype == "I64"


def test_a_tensor_is_read_as_it_is_stored(sharded: Path) -> None:
    base = open_base(str(sharded))
    stored = random_tensors(FIRST, torch.bfloat16) | random_tensors(SECOND, torch.float32)
    by_stored_name = {t.stored_name: t for t in base.tensors.values()}
    for name, expected in stored.items():
        tensor = by_stored_name[name].read()
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)


def test_shapes_are_those_of_the_matrices(sharded: Path) -> None:
    assert open_base(str(sharded)).shapes() == {
        "model.language_model.embed_tokens": (24, 16),
        "model.language_model.layers.0.self_attn.q_proj": (8, 16),
        "model.language_model.layers.0.mlp.down_proj": (16, 32),
        "model.vision_tower.encoder.layers.0.mlp.fc1": (32, 16),
        "lm_head": (24, 16),  # tied to embed_tokens
    }


def test_no_weight_is_loaded_for_the_shapes(sharded: Path) -> None:
    for name in SHARDS:
        path = sharded / name
        content = path.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        with path.open("wb") as file:  # a hole in place of the data
            file.write(content[:header])
            file.truncate(len(content))
    assert len(open_base(str(sharded)).shapes()) == 5


def test_the_embedded_model_has_the_names_of_the_installed_transformers() -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(TINY))
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    base = open_base("tiny")
    assert {name: tensor.shape for name, tensor in base.tensors.items()} == expected
    assert len(base.shards) == 1


def test_layers_quantised_in_training_are_those_that_the_loader_quantises(pico: Path) -> None:
    from models.checkpoint import resolve
    from models.loading import load_model
    from models.quantization import quantized_layers

    model = load_model(resolve(str(pico)), quantization="nf4", device="cpu").model
    assert open_base(str(pico)).quantized_in_training() == set(quantized_layers(model))


@pytest.mark.parametrize(
    ("is_said", "is_stored", "expected"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_a_tied_base_is_known_by_its_config_or_by_the_missing_output_layer(
    tmp_path: Path, is_said: bool, is_stored: bool, expected: bool
) -> None:
    name = "language_model.lm_head.weight" if is_stored else "language_model.model.norm.weight"
    save_file({name: torch.zeros(4, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"tie_word_embeddings": is_said}))
    assert open_base(str(tmp_path)).is_tied is expected


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
def test_a_quantised_base_is_refused_for_a_full_export(tmp_path: Path, method: str) -> None:
    write_sharded(tmp_path / "base", quantization_config={"quant_method": method})
    base = open_base(str(tmp_path / "base"))
    with pytest.raises(ValueError, match=rf"quantised \({method}\).*needs the unquantised base"):
        base.check_unquantized()


def test_shapes_of_a_quantised_base_come_from_its_config(tmp_path: Path) -> None:
    config = json.loads((TINY / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_base(str(tmp_path)).shapes() == open_base("tiny").shapes()


def test_weights_of_the_hub_are_fetched_when_they_are_needed(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(sharded)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    base = Base(name="google/some", revision="abc", config={}, local=None)
    assert not asked
    assert len(base.tensors) == 8
    assert len(base.shards) == 2
    assert asked == [("google/some", "abc")]


def test_weights_that_cannot_be_fetched_are_an_error_in_one_sentence() -> None:
    base = Base(name="google/not-in-the-cache", revision=None, config={}, local=None)
    with pytest.raises(ValueError, match=r"^The weights of google/not-in-the-cache .*\.$"):
        _ = base.tensors  # HF_HUB_OFFLINE is set in tests


def test_a_shard_that_the_index_lists_and_is_not_there_is_an_error(sharded: Path) -> None:
    (sharded / SHARDS[1]).unlink()
    with pytest.raises(ValueError, match=f"lists {SHARDS[1]}, which is not in that folder"):
        _ = open_base(str(sharded)).tensors


def test_a_shard_outside_the_folder_is_an_error(sharded: Path) -> None:
    (sharded / SHARDS[0]).rename(sharded.parent / "elsewhere.safetensors")
    index = {"weight_map": {"x": "../elsewhere.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="not in that folder"):
        _ = open_base(str(sharded)).tensors


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]", "holds a list where an object is expected"),
        ("{}", "is no index of safetensors shards"),
        ('{"weight_map": 1}', "is no index of safetensors shards"),
        ("{", "is not valid JSON"),
    ],
)
def test_an_index_that_is_none_is_an_error(sharded: Path, content: str, problem: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=rf"index\.json {problem}"):
        _ = open_base(str(sharded)).tensors


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_shard_is_an_error(sharded: Path, kept: int) -> None:
    path = sharded / SHARDS[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{SHARDS[0]} is truncated or damaged"):
        _ = open_base(str(sharded)).tensors


@pytest.mark.parametrize("start", [0, 8])  # its length, its text
def test_a_shard_with_a_damaged_header_is_an_error(sharded: Path, start: int) -> None:
    path = sharded / SHARDS[0]
    content = bytearray(path.read_bytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
        _ = open_base(str(sharded)).tensors


def test_weights_that_are_pickled_only_are_to_be_converted(sharded: Path) -> None:
    for path in sharded.glob("model*"):
        path.unlink()
    with pytest.raises(ValueError, match="has no weights"):
        _ = open_base(str(sharded)).tensors
    (sharded / "pytorch_model-00001-of-00002.bin").touch()
    with pytest.raises(ValueError, match=r"in pytorch_model-00001-of-00002\.bin.*convert it"):
        _ = open_base(str(sharded)).tensors


def test_an_adapter_is_no_base(sharded: Path) -> None:
    (sharded / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is an adapter"):
        open_base(str(sharded))
