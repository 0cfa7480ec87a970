"""Which layers `--lora_target_modules` means, and adapters of other kinds on them."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from finetuning.training.gradients import modules_without_gradient
from finetuning.training.job import with_initial_adapter
from finetuning.training.lora import add_lora, linear_layers, target_modules
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.loading import LoadedModel, load_family, load_model
from tests.models.tiny_families import maker

RECIPE = Recipe(lora_rank=4, lora_alpha=8, quantization="none")
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
FFN = {"gate_proj", "up_proj", "down_proj"}
NUM_LAYERS = 2  # of the pico model's language model; its vision tower has 1


@pytest.fixture
def loaded(pico1: Path) -> LoadedModel:
    return load_model(resolve(str(pico1)), quantization="none", device="cpu")


def chosen(loaded: LoadedModel, wanted: str, with_vision: bool = False) -> list[str]:
    pattern = target_modules(loaded.model, loaded.family, wanted, with_vision)
    return [n for n, _ in loaded.model.named_modules() if re.fullmatch(pattern, n)]


def leaves(names: list[str]) -> dict[str, int]:
    return dict(Counter(name.rpartition(".")[2] for name in names))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("attention", ATTENTION),
        ("ffn", FFN),
        ("attention,ffn", ATTENTION | FFN),
        ("all-linear", ATTENTION | FFN),
        ("q_proj, v_proj", {"q_proj", "v_proj"}),
        (r".*\.(q|down)_proj", {"q_proj", "down_proj"}),
    ],
)
def test_a_choice_means_these_layers_of_each_block_of_the_language_model(
    loaded: LoadedModel, wanted: str, expected: set[str]
) -> None:
    names = chosen(loaded, wanted)
    assert leaves(names) == dict.fromkeys(expected, NUM_LAYERS)
    assert all(name.startswith("model.language_model.layers.") for name in names)


def test_a_regex_may_choose_single_blocks(loaded: LoadedModel) -> None:
    wanted = r"model\.language_model\.layers\.1\..*q_proj"
    assert chosen(loaded, wanted) == ["model.language_model.layers.1.self_attn.q_proj"]


def test_the_vision_side_comes_on_top_where_it_is_asked_for(loaded: LoadedModel) -> None:
    seeing = set(chosen(loaded, "attention,ffn", True)) - set(chosen(loaded, "attention,ffn"))
    # SigLIP's block: three projections and out_proj, fc1 and fc2
    expected = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    assert leaves(sorted(seeing)) == dict.fromkeys(expected, 1)
    everything = chosen(loaded, "all-linear", True)
    assert sorted(everything) == sorted(linear_layers(loaded.model))
    assert "model.multi_modal_projector.linear" in everything


def test_the_output_layer_is_never_adapted(loaded: LoadedModel) -> None:
    assert "lm_head" not in chosen(loaded, "all-linear", True)


@pytest.mark.parametrize("wanted", ["qproj", "attention,mlp", "lm_head", "out_proj", r".*\.zzz"])
def test_a_name_that_is_no_layer_of_the_language_model_is_refused(
    loaded: LoadedModel, wanted: str
) -> None:
    with pytest.raises(ValueError, match=r"whose layers are down_proj, gate_proj, k_proj.*commas"):
        chosen(loaded, wanted)


def test_names_are_found_before_a_weight_is_loaded(pico1: Path) -> None:
    family = load_family(resolve(str(pico1)))
    empty = family.empty_model
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert "q_proj" in target_modules(empty, family, "attention")


@pytest.mark.parametrize(("option", "scale"), [("use_rslora", 8 / 4**0.5), (None, 8 / 4)])
def test_the_scale_is_alpha_over_rank_or_over_its_root(
    loaded: LoadedModel, option: str | None, scale: float
) -> None:
    recipe = replace(RECIPE, use_rslora=option is not None)
    model = add_lora(loaded.model, loaded.family, recipe)
    layer = model.base_model.model.model.language_model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == scale


def test_dora_learns_magnitudes(loaded: LoadedModel) -> None:
    model = add_lora(loaded.model, loaded.family, replace(RECIPE, use_dora=True))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sum("lora_magnitude_vector" in name for name in trained) == 7 * NUM_LAYERS


def test_training_goes_on_from_an_adapter(pico1: Path, tmp_path: Path) -> None:
    def start(**changes: Any) -> Any:
        loaded = load_model(resolve(str(pico1)), quantization="none", device="cpu")
        return add_lora(loaded.model, loaded.family, replace(RECIPE, **changes))

    first = start(lora_rank=2, lora_target_modules="q_proj")
    for name, parameter in first.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    first.save_pretrained(tmp_path)
    second = start(lora_init_from=str(tmp_path))
    expected = load_file(tmp_path / "adapter_model.safetensors")
    trained = {n: p for n, p in second.named_parameters() if p.requires_grad}
    assert len(trained) == len(expected) == 2 * NUM_LAYERS
    for name, parameter in trained.items():
        assert torch.equal(parameter, expected[name.replace(".default", "")])


def test_a_run_that_goes_on_records_the_shape_of_the_adapter_it_has(
    pico1: Path, tmp_path: Path
) -> None:
    loaded = load_model(resolve(str(pico1)), quantization="none", device="cpu")
    first = replace(
        RECIPE, lora_rank=2, lora_alpha=6, use_rslora=True, lora_target_modules="q_proj"
    )
    add_lora(loaded.model, loaded.family, first).save_pretrained(tmp_path)
    start = replace(RECIPE, lora_init_from=str(tmp_path))
    adopted = with_initial_adapter(start, resolve(str(pico1)))
    assert (adopted.lora_rank, adopted.lora_alpha, adopted.use_rslora) == (2, 6, True)
    layer = "model.language_model.layers.1.self_attn"
    layers = re.compile(adopted.lora_target_modules)
    assert layers.fullmatch(f"{layer}.q_proj") and not layers.fullmatch(f"{layer}.v_proj")
    # of others' adapters it is a list
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    listed = config | {"target_modules": ["v_proj", "k_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(listed))
    assert with_initial_adapter(start, resolve(str(pico1))).lora_target_modules == "k_proj,v_proj"
    assert with_initial_adapter(RECIPE, resolve(str(pico1))) == RECIPE


def test_a_start_that_is_no_adapter_is_refused(pico1: Path) -> None:
    start = replace(RECIPE, lora_init_from=str(pico1))
    with pytest.raises(ValueError, match=r"takes the folder of a LoRA adapter, and .* is none"):
        with_initial_adapter(start, resolve(str(pico1)))


def test_a_start_of_another_base_is_refused(pico1: Path, tmp_path: Path) -> None:
    loaded = load_model(resolve(str(pico1)), quantization="none", device="cpu")
    add_lora(loaded.model, loaded.family, RECIPE).save_pretrained(tmp_path)
    run = {"task": "digits", "settings": {}, "base_fingerprint": "w2:0123456789abcdef"}
    (tmp_path / "run.json").write_text(json.dumps(run))
    start = replace(RECIPE, lora_init_from=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"--lora_init_from cannot go on from .* has other weights"
    ):
        with_initial_adapter(start, resolve(str(pico1)))


@pytest.mark.parametrize("wanted", ["*_proj", "(q_proj"])
def test_a_regex_that_is_none_is_one_sentence(loaded: LoadedModel, wanted: str) -> None:
    with pytest.raises(ValueError, match="is no regex"):
        chosen(loaded, wanted)


def test_the_adapter_to_go_on_from_must_have_weights(loaded: LoadedModel, tmp_path: Path) -> None:
    add_lora(loaded.model, loaded.family, RECIPE).save_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    start = replace(RECIPE, lora_init_from=str(tmp_path))
    with pytest.raises(ValueError, match=rf"Adapter {tmp_path} holds no weights \(adapter_model"):
        with_initial_adapter(start, loaded.checkpoint)


def test_the_regex_fits_linear_layers_alone_and_is_short_where_it_can_be(tmp_path: Path) -> None:
    """Between the two linear layers of Qwen's merger lies a GELU, which bears the number 1."""
    maker("qwen2_vl")(tmp_path)
    family = load_family(resolve(str(tmp_path)))
    pattern = target_modules(family.empty_model, family, "all-linear", True)
    parts = pattern.split("|")
    merger = [part for part in parts if "merger" in part]
    assert merger == [r"model\.visual\.merger\.mlp\.0", r"model\.visual\.merger\.mlp\.2"]
    # the language model's seven kinds, and attn.qkv, attn.proj, mlp.fc1 and fc2 of the tower
    assert len(parts) == 2 + 7 + 4


@pytest.mark.parametrize("name", ["paligemma", "llava_onevision", "gemma3"])
def test_the_head_that_pools_what_siglip_sees_is_left_out(name: str, tmp_path: Path) -> None:
    """Where config.json does not speak of `vision_use_head` it is there, and not asked for."""
    maker(name)(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["vision_config"]["vision_use_head"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    family = load_family(resolve(str(tmp_path)))
    heads = [n for n in linear_layers(family.empty_model) if "vision_tower.head." in n]
    assert len(heads) == 3  # attention's projection, fc1 and fc2
    pattern = target_modules(family.empty_model, family, "all-linear", True)
    assert not [n for n in heads if re.fullmatch(pattern, n)]


@pytest.mark.parametrize("name", ["llava", "llava_next"])
def test_layers_behind_the_features_are_left_out(name: str, tmp_path: Path) -> None:
    maker(name)(tmp_path)
    loaded = load_model(resolve(str(tmp_path)), quantization="none", device="cpu")
    model = add_lora(loaded.model, loaded.family, replace(RECIPE, lora_vision=True))
    image = Image.new("RGB", (40, 30), "red")
    encoded = loaded.family.encode(image, [("user", "what?"), ("assistant", "red")])
    batch = loaded.family.collate([encoded])
    dead, number = modules_without_gradient(model, batch, "token")
    assert not dead
    # of the tower's two layers the first one's output is taken: six projections of it are adapted
    assert number == 7 * NUM_LAYERS + 6
