"""Adapters as PEFT writes them are read as their updates."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merging.algebra.adapters import check_low_rank_only
from merging.algebra.reader import read_adapter
from tests.merging.algebra.adapter_files import (
    BASE,
    K,
    Layers,
    assert_close,
    check_sentence,
    with_value,
    without,
)
from tests.merging.algebra.make_adapters import KEY, Q, deltas, lora, train, write_files


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},  # the tower's too
        {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": r".*\.[01]\.mlp\.fc\d"},
        {"r": 3, "lora_alpha": 7, "target_modules": ["linear", "gate_proj"]},
        {
            "r": 4,
            "lora_alpha": 6,
            "use_rslora": True,
            "target_modules": r"model\.language_model\.layers\.\d+\.self_attn\.[qkv]_proj",
            # the first key that matches: a name that ends so, an anchored one, a pattern
            "rank_pattern": {"0.self_attn.q_proj": 2, f"^{K}": 5, r"self_attn\.[qk]_proj": 3},
            "alpha_pattern": {"k_proj": 9, r"layers\.1\..*": 1},
        },
        {"r": 2, "target_modules": ["lm_head"]},
        {"r": 4, "lora_alpha": 8, "use_dora": False, "init_lora_weights": "gaussian"}
        | {"target_modules": ["o_proj"]},
    ],
    ids=["targets", "rslora", "projector", "patterns", "lm_head", "gaussian"],
)
def test_an_update_is_the_one_that_peft_computes(
    config: dict[str, Any], tiny: nn.Module, tmp_path: Path
) -> None:
    expected = train(tiny, tmp_path, **config)
    adapter = read_adapter(tmp_path)
    assert_close(adapter.updates, expected)
    assert adapter.warnings == ()
    assert not (adapter.dora or adapter.biases or adapter.saved)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_a_half_precision_adapter_is_multiplied_in_float32(
    dtype: torch.dtype, tiny: nn.Module, tmp_path: Path
) -> None:
    train(tiny, tmp_path, dtype, r=4, lora_alpha=8, target_modules=["down_proj"])
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    adapter = read_adapter(tmp_path)
    assert adapter.dtypes == (str(dtype).removeprefix("torch."),)
    name, update = next(iter(adapter.updates.items()))
    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"].double() for part in "AB")
    # PEFT would round the product to half precision; ours is exact to float32
    assert (update.dense() - 2 * b @ a).norm() <= 1e-6 * (b @ a).norm()
    assert update.a.dtype == update.b.dtype == torch.float32


def test_patterns_choose_as_pefts_own_function(tmp_path: Path) -> None:
    keys = ["q_proj", r"layers\.1\.self_attn\.k_proj", "^model.layers.2.k_proj", "x.*y", "layers.2"]
    alphas = dict(zip(keys, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    names = [
        *("q_proj", "xq_proj", "layers.1.self_attn.q_proj", "a.layers.1.self_attn.k_proj"),
        *("model.layers.2.k_proj", "b.model.layers.2.k_proj", "m.x1.2y", "m.layers.2.k_proj"),
        "xlayers.2",
    ]
    tensors: dict[str, Tensor] = {}
    for name in names:
        tensors |= lora(f"base_model.model.{name}")
    adapter = read_adapter(write_files(tmp_path, tensors, lora_alpha=9, alpha_pattern=alphas))
    expected = {name: alphas.get(get_pattern_key(alphas.keys(), name), 9.0) for name in names}
    assert list(expected.values()) == [1, 9, 1, 2, 3, 9, 4, 9, 9]
    assert adapter.alphas == expected
    assert all(adapter.updates[name].scale == alpha / 2 for name, alpha in expected.items())


def test_scale_is_alpha_over_rank_or_over_its_root(tmp_path: Path) -> None:
    # A = [[1..5], [6..10]], B = ones: a column of B A is 1 + 6 = 7 first
    plain = read_adapter(write_files(tmp_path / "plain", lora()))
    stabilised = read_adapter(write_files(tmp_path / "rs", lora(), use_rslora=True))
    assert plain.updates[Q].dense()[0, 0] == 7 * 4 / 2
    assert stabilised.updates[Q].dense()[0, 0] == pytest.approx(7 * 4 / math.sqrt(2))
    assert plain.alphas == {Q: 4.0} and plain.updates[Q].rank == 2
    assert plain.updates[Q].shape == (3, 5)


@pytest.mark.parametrize(
    "module",
    [
        Q,
        "language_model.model.layers.0.self_attn.q_proj",
        "language_model.layers.0.self_attn.q_proj",
    ],
)
@pytest.mark.parametrize("inserted", ["", ".default", ".my_task"])
def test_every_spelling_of_a_key_gives_the_canonical_module(
    module: str, inserted: str, tmp_path: Path
) -> None:
    tensors = {
        key.replace(".weight", f"{inserted}.weight"): tensor
        for key, tensor in lora(f"base_model.model.{module}").items()
    }
    assert list(read_adapter(write_files(tmp_path, tensors)).updates) == [Q]


def test_patterns_match_the_name_under_which_a_module_was_trained(tmp_path: Path) -> None:
    old = "language_model.model.layers.0.self_attn.q_proj"
    folder = write_files(
        tmp_path,
        lora(f"base_model.model.{old}", rank=3),
        rank_pattern={f"^{old}": 3},
        alpha_pattern={r"language_model\.model\..*": 12},
    )
    adapter = read_adapter(folder)
    assert adapter.updates[Q].scale == 12 / 3 and adapter.alphas == {Q: 12}


def test_an_adapter_of_old_names_gives_what_peft_makes_of_it(
    tiny: nn.Module, tmp_path: Path
) -> None:
    trained = train(tiny, tmp_path, r=2, target_modules=["q_proj", "fc1", "linear"])
    path = tmp_path / "adapter_model.safetensors"
    prefix = "base_model.model."
    old = {
        key.replace(f"{prefix}model.language_model.", f"{prefix}language_model.model.")
        .replace(f"{prefix}model.vision_tower.", f"{prefix}vision_tower.vision_model.")
        .replace(f"{prefix}model.multi_modal", f"{prefix}multi_modal"): tensor
        for key, tensor in load_file(path).items()
    }
    assert not any(key.startswith(f"{prefix}model.") for key in old)
    save_file(old, path)
    updates = read_adapter(tmp_path).updates
    assert_close(updates, trained)
    # PEFT 0.21 warns and leaves out the projector of such a file
    with pytest.warns(UserWarning, match="missing adapter keys"):
        adapted = PeftModel.from_pretrained(tiny, tmp_path)
    loaded = {name: delta for name, delta in deltas(adapted).items() if delta.any()}
    adapted.unload()
    assert set(trained) - set(loaded) == {"model.multi_modal_projector.linear"}
    assert_close({name: updates[name] for name in sorted(loaded)}, loaded)


def test_a_pickle_is_read_where_it_holds_tensors_only(tmp_path: Path) -> None:
    write_files(tmp_path, lora())
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(lora(), tmp_path / "adapter_model.bin")
    assert read_adapter(tmp_path).updates[Q].dense()[0, 0] == 14


def test_the_report_gets_file_hash_base_and_fingerprint(tmp_path: Path) -> None:
    write_files(tmp_path, lora(), base_model_name_or_path=BASE)
    (tmp_path / "run.json").write_text('{"base_fingerprint": "abc", "settings": {}}')
    adapter = read_adapter(tmp_path)
    content = (tmp_path / "adapter_model.safetensors").read_bytes()
    assert adapter.sha256 == hashlib.sha256(content).hexdigest()
    assert (adapter.base_model, adapter.base_fingerprint) == (BASE, "abc")


def test_an_untrained_adapter_is_a_warning_that_asks_so(tiny: nn.Module, tmp_path: Path) -> None:
    adapted = get_peft_model(tiny, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path)
    adapted.unload()
    (warning,) = read_adapter(tmp_path).warnings
    assert str(tmp_path) in warning and "untrained?" in warning


@pytest.mark.parametrize("part", ["lora_A", "lora_B", "lora_alpha"])
def test_an_update_of_zero_changes_nothing_whatever_makes_it_so(tmp_path: Path, part: str) -> None:
    tensors = {key: (0 if part in key else 1) * tensor for key, tensor in lora().items()}
    write_files(tmp_path, tensors, lora_alpha=0 if part == "lora_alpha" else 4)
    (warning,) = read_adapter(tmp_path).warnings
    assert warning == f"Adapter {tmp_path} changes nothing: every update is zero (untrained?)."


@pytest.mark.parametrize(
    ("more", "config"),
    [
        ({"model.head.weight": torch.ones(2)}, {"modules_to_save": ["head"]}),
        ({f"{Q}.bias": torch.ones(3)}, {"bias": "all"}),
        ({f"{KEY}.lora_B.bias": torch.ones(3)}, {"lora_bias": True}),
        ({f"{KEY}.lora_magnitude_vector": torch.ones(3)}, {"use_dora": True}),
    ],
    ids=["whole tensor", "bias", "bias of lora_B", "DoRA"],
)
def test_beside_an_update_of_zero_something_else_may_change(
    tmp_path: Path, more: dict[str, Tensor], config: dict[str, Any]
) -> None:
    tensors = {key: (0 if "lora_B" in key else 1) * tensor for key, tensor in lora().items()}
    write_files(tmp_path, tensors | more, **config)
    assert read_adapter(tmp_path).warnings == ()


def test_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Layers()
    weight = model.linear.weight.detach().clone()
    expected = train(model, tmp_path, r=2, target_modules=["linear"], use_dora=True)
    adapter = read_adapter(tmp_path)
    assert_close(adapter.updates, expected)
    # section 4.1 of arXiv:2402.09353: m (W + D) / |W + D|, row by row
    changed = weight + adapter.updates["linear"].dense()
    merged = adapter.dora["linear"][:, None] * changed / changed.norm(dim=1, keepdim=True)
    by_peft = PeftModel.from_pretrained(model, tmp_path).merge_and_unload()
    assert torch.allclose(merged, by_peft.linear.weight, atol=1e-6)
    with pytest.raises(ValueError, match=r"DoRA.*\(linear first\).*--export full"):
        check_low_rank_only(adapter)


def test_lora_bias_comes_with_its_scale_applied(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Layers()
    bias = model.linear.bias.detach().clone()
    train(model, tmp_path, r=2, lora_alpha=6, target_modules=["linear"], lora_bias=True)
    adapter = read_adapter(tmp_path)
    merged = PeftModel.from_pretrained(model, tmp_path).merge_and_unload()
    assert torch.allclose(bias + adapter.biases["linear"], merged.linear.bias, atol=1e-6)
    with pytest.raises(ValueError, match=r"lora_bias.*\(linear first\)"):
        check_low_rank_only(adapter)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"bias": "lora_only"}, {"linear.bias"}),
        ({"bias": "all"}, {"linear.bias", "conv.bias", "head.bias"}),
        ({"modules_to_save": ["head"]}, {"head.weight", "head.bias"}),
        ({"modules_to_save": ["ead"]}, {"head.weight", "head.bias"}),  # PEFT asks for the end alone
        (
            {"bias": "all", "modules_to_save": ["head"]},
            {"linear.bias", "conv.bias", "head.weight", "head.bias"},
        ),
    ],
    ids=["lora_only", "all", "modules_to_save", "end of a name", "both"],
)
def test_whole_tensors_are_kept_as_they_are(
    config: dict[str, Any], expected: set[str], tmp_path: Path
) -> None:
    model = Layers()
    values = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, tmp_path, r=2, target_modules=["linear"], **config)
    adapter = read_adapter(tmp_path)
    assert set(adapter.saved) == expected
    assert all(torch.equal(value, values[name]) for name, value in adapter.saved.items())
    with pytest.raises(ValueError, match=r"whole tensors.*first\)"):
        check_low_rank_only(adapter)


def test_the_frozen_copy_of_an_adapted_output_layer_is_passed_over(tmp_path: Path) -> None:
    tensors = lora("base_model.model.lm_head")
    tensors["base_model.model.lm_head.base_layer.weight"] = torch.ones(3, 5)
    adapter = read_adapter(write_files(tmp_path, tensors))
    assert list(adapter.updates) == ["lm_head"] and not adapter.saved


def test_a_saved_embedding_is_found_under_its_canonical_name(tmp_path: Path) -> None:
    key = "base_model.model.language_model.model.embed_tokens.weight"
    adapter = read_adapter(write_files(tmp_path, {**lora(), key: torch.ones(4, 3)}))
    assert list(adapter.saved) == ["model.language_model.embed_tokens.weight"]


def test_an_adapter_of_matrices_alone_can_be_written_as_one(tmp_path: Path) -> None:
    check_low_rank_only(read_adapter(write_files(tmp_path, lora())))


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (lora(), {"peft_type": "LOHA", "r": "x"}, "is of type LOHA, which is not supported yet"),
        (lora(), {"target_parameters": ["experts.up"]}, "with target_parameters, .* not supported"),
        (lora(), {"fan_in_fan_out": True}, "with fan_in_fan_out, which is not supported yet"),
        (lora(), {"layer_replication": [[0, 2]]}, "with layer_replication, .* not supported yet"),
        (lora(), {"trainable_token_indices": [1]}, "with trainable_token_indices"),
        (lora(), {"alora_invocation_tokens": [1]}, "with alora_invocation_tokens"),
        (lora(), {"init_lora_weights": "pissa_niter_4"}, "by pissa_niter_4, .* not supported yet"),
        (lora(), {"init_lora_weights": "olora"}, "started by olora"),
        (lora(), {"init_lora_weights": "corda"}, "started by corda"),
        (lora(), {"init_lora_weights": "loftq"}, "started by loftq"),
        (lora(), {"init_lora_weights": "lora_ga"}, "started by lora_ga"),
        (lora(), {"r": "two"}, r"Expected `int`, got `str` - at `\$.r`"),
        (lora(), {"r": 0}, r"Expected `int` >= 1 - at `\$.r`"),
        (without("lora_B"), {}, f"module {Q} has no lora_B"),
        (without("lora_A"), {}, f"module {Q} has no lora_A"),
        (lora(), {"r": 8}, f"module {Q} has 2 rows in lora_A .* its rank is 8"),
        (lora(), {"rank_pattern": {"q_proj": 3}}, f"module {Q} has 2 rows .* its rank is 3"),
        ({**lora(), "base_model.model.x.weight": torch.ones(2)}, {}, "base_model.model.x.weight"),
        ({**lora(), f"{KEY}.lora_C.weight": torch.ones(2)}, {}, f"{KEY}.lora_C.weight, which"),
        ({**lora(), f"{KEY}.lora_A.bias": torch.ones(2)}, {}, f"{KEY}.lora_A.bias, which"),
        ({**lora(), f"{KEY}.bias": torch.ones(2)}, {}, f"{KEY}.bias, which"),
        ({"base_model.model.head.bias": torch.ones(2)}, {"bias": "all"}, "holds no lora_A"),
        (
            lora() | lora("base_model.model." + Q.replace("model.language", "language")),
            {},
            "holds .* a second time under another name",
        ),
        (with_value(math.nan), {}, f"has NaN or Inf in {KEY}.lora_B.weight"),
        (with_value(-math.inf), {}, f"has NaN or Inf in {KEY}.lora_B.weight"),
        (lora(), {"use_dora": True}, f"module {Q} has no lora_magnitude_vector"),
        ({**lora(), f"{KEY}.lora_magnitude_vector": torch.ones(3)}, {}, "has a lora_magnitude_vec"),
        (
            {**lora(), f"{KEY}.lora_magnitude_vector": torch.ones(4)},
            {"use_dora": True},
            f"module {Q} has 4 entries in lora_magnitude_vector, and 3 outputs",
        ),
        ({**lora(), f"{KEY}.lora_B.bias": torch.ones(3)}, {}, f"module {Q} has a lora_B.bias"),
        (lora(), {"lora_bias": True}, f"module {Q} has no lora_B.bias"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_sentence(
    tensors: dict[str, Tensor], config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_files(tmp_path / "adapter", tensors, **config)
    with pytest.raises(ValueError, match=message) as caught:
        read_adapter(folder)
    check_sentence(str(caught.value), folder)
