"""That the 4-bit path is really taken, on the right modules, and trains after an evaluation."""

from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from models import quantization
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from models.quantization import (
    check_available,
    check_quantization,
    dequantized_on_cpu,
    prepare_quantized,
    quantized_layers,
    round_trip_error,
    stored_quantization,
)
from models.settings import Decoding
from tests.models.examples import image
from tests.models.test_paligemma import encoded


@pytest.fixture
def loaded(pico: Path) -> LoadedModel:
    return load_model(resolve(str(pico)), quantization="nf4", device="cpu")


def test_all_of_the_language_model_and_nothing_else_is_in_4_bits(loaded: LoadedModel) -> None:
    # 2 layers of q, k, v, o, gate, up, down
    assert loaded.quantized == {"model.language_model": 14}
    kinds = {
        name: type(module)
        for name, module in loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert sum(kind is bnb.nn.Linear4bit for kind in kinds.values()) == 14
    assert kinds["lm_head"] is torch.nn.Linear
    assert kinds["model.multi_modal_projector.linear"] is torch.nn.Linear
    vision = [kind for name, kind in kinds.items() if "vision_tower" in name]
    assert vision and set(vision) == {torch.nn.Linear}


def test_double_quantisation_is_on(loaded: LoadedModel) -> None:
    layer = loaded.model.model.language_model.layers[0].mlp.up_proj
    assert layer.weight.quant_state.nested
    assert layer.weight.quant_state.quant_type == "nf4"
    assert layer.weight.dtype == torch.uint8


def test_the_tied_output_layer_stays_tied(loaded: LoadedModel) -> None:
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight


def test_8_bits_reach_the_same_modules(pico1: Path) -> None:
    loaded = load_model(resolve(str(pico1)), quantization="int8", device="cpu")
    assert loaded.quantized == {"model.language_model": 14}
    batch = [encoded(loaded.family, "what is it?")]
    assert len(loaded.family.generate(loaded.model, batch, Decoding(max_new_tokens=4))) == 1


def test_layers_held_in_full_are_not_decoded_anew_inside(loaded: LoadedModel) -> None:
    layers = quantized_layers(loaded.model)
    with dequantized_on_cpu(loaded.model):
        held = [layer.forward for layer in layers.values()]
        with dequantized_on_cpu(loaded.model):
            assert [layer.forward for layer in layers.values()] == held
        assert [layer.forward for layer in layers.values()] == held
    assert not any("forward" in vars(layer) for layer in layers.values())


def test_a_quantised_vision_tower_is_refused(pico1: Path) -> None:
    """`["vision_tower"]` is what guides write; it matches nothing."""
    from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["vision_tower"])
    model = AutoModelForImageTextToText.from_pretrained(pico1, quantization_config=config)
    with pytest.raises(RuntimeError, match="vision_tower"):
        prepare_quantized(model, ("model.vision_tower", "lm_head"))


def test_the_packing_that_kills_gradients_is_switched_off(
    pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as on a CPU with AVX512-BF16, whatever this machine has
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    packed: list[Any] = []
    monkeypatch.setattr(
        "bitsandbytes.nn.modules._convert_weight_packed_for_cpu",
        lambda data, state: packed.append(state) or (data, state),
    )
    loaded = load_model(resolve(str(pico1)), quantization="nf4", device="cpu")
    batch = [encoded(loaded.family, "what is it?")]
    loaded.family.generate(loaded.model, batch, Decoding(max_new_tokens=2))
    assert not packed
    layers = [m for m in loaded.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    layers[0].support_avx512bf16_for_cpu = True  # the guard taken away: the fault is there
    loaded.family.generate(loaded.model, batch, Decoding(max_new_tokens=2))
    assert packed


def test_each_layer_comes_back_nearly_as_it_went_in(pico: Path, loaded: LoadedModel) -> None:
    exact = load_model(resolve(str(pico)), quantization="none", device="cpu").model
    weights = dict(exact.named_parameters())
    layers = quantized_layers(loaded.model)
    assert len(layers) == 14
    for name, layer in layers.items():
        weight = weights[f"{name}.weight"]
        back = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        error = float((back - weight).detach().norm() / weight.detach().norm())
        assert 0.05 < error < 0.12, name  # 0.092 is what NF4 gives on normal weights


def test_a_width_that_comes_back_wrong_is_refused(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = bnb.functional.dequantize_4bit

    def wrong(*args: Any, **kwargs: Any) -> torch.Tensor:  # a kernel that loses the row ends
        weight = right(*args, **kwargs)
        weight[:, -8:] = weight[:, :8]
        return weight

    assert round_trip_error(128) == pytest.approx(0.092, abs=0.01)
    monkeypatch.setattr(bnb.functional, "dequantize_4bit", wrong)
    with pytest.raises(RuntimeError, match="input features come back"):
        prepare_quantized(loaded.model, loaded.family.unquantized_modules)


def test_bitsandbytes_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda _: None)
    check_available("none")
    with pytest.raises(ValueError, match="pip install bitsandbytes"):
        check_available("nf4")


def test_parts_are_counted_by_their_place() -> None:
    names = ["model.language_model.layers.0.q", "model.language_model.layers.1.q", "lm_head"]
    assert quantization.count_by_part(names) == {"model.language_model": 2, "lm_head": 1}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"text_config": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
        (
            {
                "quantization_config": {
                    "quant_method": "bitsandbytes",
                    "load_in_4bit": True,
                    "bnb_4bit_quant_type": "nf4",
                }
            },
            "nf4",
        ),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "fp4"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "int8"),
    ],
)
def test_the_config_says_how_the_weights_are_stored(
    config: dict[str, Any], expected: str | None
) -> None:
    assert stored_quantization(config) == expected


@pytest.mark.parametrize("value", ["nf4", ["nf4"], 4])
def test_a_config_that_says_it_in_another_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="as quantization_config, where an object is expected"):
        stored_quantization({"quantization_config": value})


@pytest.mark.parametrize(
    ("quantization", "stored", "message"),
    [
        ("nf4", "gptq", "stored in gptq .* take the model's unquantised weights"),
        ("none", "fp8", "stored in fp8"),
        ("nf4", "fp4", "stored in fp4"),
        ("none", "nf4", "pass --quantization nf4"),
        ("int8", "nf4", "pass --quantization nf4"),
        ("nf4", "int8", "pass --quantization int8"),
    ],
)
def test_a_base_is_held_as_it_is_stored_or_refused(
    quantization: Any, stored: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_quantization(quantization, stored, "org/model")
    check_quantization("nf4", "nf4", "org/model")
    check_quantization("none", None, "org/model")


def test_a_base_stored_in_4_bits_answers_as_the_one_that_was_saved(
    pico1: Path, tmp_path: Path
) -> None:
    loaded = load_model(resolve(str(pico1)), quantization="nf4", device="cpu")
    loaded.model.save_pretrained(tmp_path)
    loaded.family.save(str(tmp_path))
    checkpoint = resolve(str(tmp_path))
    assert checkpoint.stored_in == "nf4"
    again = load_model(checkpoint, quantization="nf4", device="cpu")
    assert again.quantized == loaded.quantized
    batch = loaded.family.collate([loaded.family.encode(image(), [("user", "what is it?")])])
    batch.pop("labels")
    with torch.no_grad():
        first, second = (each.model(**batch).logits for each in (loaded, again))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="pass --quantization nf4"):
        load_model(checkpoint, quantization="none", device="cpu")
