"""Reading adapters, against PEFT's own updates; refusals; writing one that PEFT loads."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from merging.algebra.adapters import Adapter, check_low_rank_only, check_same_base, check_shapes
from merging.algebra.low_rank import LowRank
from merging.algebra.reader import read_adapter
from merging.algebra.writer import exact_pattern, verify_adapter, write_adapter
from tests.merging.make_adapters import KEY, Q, deltas, load_tiny, lora, train, write_files

K = Q.replace("q_proj", "k_proj")
BASE = "google/paligemma-3b-pt-224"


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return load_tiny()


def assert_close(updates: Mapping[str, LowRank], expected: Mapping[str, Tensor]) -> None:
    assert list(updates) == sorted(expected)
    for name, delta in expected.items():
        dense = updates[name].dense()
        assert (dense - delta).norm() <= 1e-6 * delta.norm(), name


# --- what PEFT trained is what is read -----------------------------------------------------


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


# --- DoRA, biases, whole modules: read, and refused only where they cannot be written ------------


class Layers(nn.Module):
    """A biased linear layer, an embedding, a convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.linear = nn.Linear(5, 3)
        self.conv = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.linear(x))


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
    ],
    ids=["lora_only", "all", "modules_to_save"],
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


# --- refusals ------------------------------------------------------------------------------


def without(part: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in lora().items() if part not in key}


def with_value(value: float) -> dict[str, Tensor]:
    tensors = lora()
    tensors[f"{KEY}.lora_B.weight"][2, 1] = value
    return tensors


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
        (lora(Q), {}, f"holds {Q}.lora_A.weight, which its adapter_config.json does not explain"),
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


def check_sentence(text: str, folder: Path) -> None:
    assert str(folder) in text and text.endswith(".") and "\n" not in text
    assert "; " in text  # what to do


def make_file(folder: Path) -> None:
    folder.write_text("")


def make_nothing(folder: Path) -> None:
    pass


def make_full_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def make_no_weights(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_model.safetensors").unlink()


def make_torn_config(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def make_truncated(folder: Path) -> None:
    write_files(folder, lora())
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def make_no_safetensors(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com")


def make_pickle_of_code(folder: Path) -> None:
    make_no_weights(folder)
    torch.save({"a": Path("x")}, folder / "adapter_model.bin")


def make_pickle_of_numbers(folder: Path) -> None:
    make_no_weights(folder)
    torch.save([1, 2], folder / "adapter_model.bin")


def make_torn_pickle(folder: Path) -> None:
    make_no_weights(folder)
    torch.save(lora(), folder / "adapter_model.bin")
    path = folder / "adapter_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


def make_strange_run(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "run.json").write_text('{"base_fingerprint": 1}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_nothing, "it is not a folder"),
        (make_file, "it is not a folder"),
        (make_full_model, "holds a full model"),
        (
            make_no_weights,
            "has no weights: neither adapter_model.safetensors nor adapter_model.bin",
        ),
        (make_torn_config, "adapter_config.json is not complete JSON"),
        (make_truncated, "adapter_model.safetensors is damaged"),
        (make_no_safetensors, "adapter_model.safetensors is damaged"),
        (make_pickle_of_code, "adapter_model.bin is damaged or holds more than tensors"),
        (make_pickle_of_numbers, "adapter_model.bin is not a table of tensors"),
        (make_torn_pickle, "adapter_model.bin is damaged or holds more than tensors"),
        (make_strange_run, "run.json is not a run.json of ours"),
    ],
)
def test_a_folder_without_a_whole_adapter_is_refused(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    make(folder)
    with pytest.raises(ValueError, match=message) as caught:
        read_adapter(folder)
    check_sentence(str(caught.value), folder)


@pytest.mark.parametrize(
    ("target", "message"), [("embed", "adapts an embedding"), ("conv", "convolutions are not supp")]
)
def test_lora_on_anything_but_linear_layers_is_refused(
    target: str, message: str, tmp_path: Path
) -> None:
    train(Layers(), tmp_path, r=2, target_modules=["linear", target])
    with pytest.raises(ValueError, match=message):
        read_adapter(tmp_path)


# --- one base ------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    return read_adapter(write_files(tmp_path / "a", lora(), base_model_name_or_path=BASE))


def test_the_same_base_is_no_matter(adapter: Adapter) -> None:
    assert check_same_base([adapter, adapter], BASE) == []


@pytest.mark.parametrize(
    "base",
    [
        "/models/paligemma-3b-pt-224",
        "/models/paligemma-3b-pt-224/",
        "/cache/models--google--paligemma-3b-pt-224/snapshots/0123abcd",
        "other/paligemma-3b-pt-224",
    ],
)
def test_a_copy_of_the_same_name_is_taken_with_a_warning(base: str, adapter: Adapter) -> None:
    (warning,) = check_same_base([adapter], base)
    assert BASE in warning and base in warning and str(adapter.folder) in warning


def test_another_base_is_refused_unless_allowed(adapter: Adapter) -> None:
    other = replace(adapter, folder=Path("b"), base_model="google/paligemma2-3b-pt-224")
    with pytest.raises(ValueError, match=f"b was trained on {other.base_model}, not on {BASE}; "):
        check_same_base([adapter, other], BASE)
    (warning,) = check_same_base([adapter, other], BASE, allow_mismatch=True)
    assert other.base_model in warning and BASE in warning


def test_an_adapter_that_does_not_name_its_base_is_taken_with_a_warning(adapter: Adapter) -> None:
    (warning,) = check_same_base([replace(adapter, base_model="")], BASE)
    assert "does not name its base" in warning and BASE in warning


def test_fingerprints_decide_over_names(adapter: Adapter) -> None:
    ours = replace(adapter, base_fingerprint="1")
    assert check_same_base([ours], "/elsewhere/base", base_fingerprint="1") == []
    with pytest.raises(ValueError, match=f"whose weights are not those of {BASE}"):
        check_same_base([ours], BASE, base_fingerprint="2")
    # the Hub's own has none: the names stand
    assert check_same_base([ours], BASE) == []


def test_two_adapters_of_bases_of_one_name_and_other_weights_are_refused(adapter: Adapter) -> None:
    one, two = (replace(adapter, base_fingerprint=fingerprint) for fingerprint in "12")
    with pytest.raises(ValueError, match=r"not those of adapter .*'s base"):
        check_same_base([one, two], BASE)


def test_a_module_that_the_base_does_not_have_is_refused(adapter: Adapter) -> None:
    check_shapes([adapter], {Q: (3, 5), K: (1, 5)})
    with pytest.raises(ValueError, match=f"changes {Q}, which the base model does not have; "):
        check_shapes([adapter], {K: (3, 5)})


@pytest.mark.parametrize("shape", [(5, 3), (3, 4), (4, 5)])
def test_a_module_of_another_shape_is_refused(shape: tuple[int, int], adapter: Adapter) -> None:
    message = f"{Q} by a 3 x 5 matrix, and the base model has {shape[0]} x {shape[1]} there; "
    with pytest.raises(ValueError, match=message):
        check_shapes([adapter], {Q: shape})


# --- writing -------------------------------------------------------------------------------


def random_update(rank: int, d_out: int, d_in: int, scale: float = 1.0) -> LowRank:
    return LowRank(b=torch.randn(d_out, rank), a=torch.randn(rank, d_in), scale=scale)


def tiny_updates() -> dict[str, LowRank]:
    """Updates of the tiny model's modules: many ranks, signs, no scale, other places."""
    torch.manual_seed(0)
    layers = "model.language_model.layers"
    return {
        f"{layers}.1.self_attn.q_proj": random_update(4, 128, 128, 2.0),
        f"{layers}.0.self_attn.q_proj": random_update(4, 128, 128, 0.3),
        f"{layers}.0.self_attn.k_proj": random_update(32, 32, 128, -1.5),
        f"{layers}.1.mlp.down_proj": random_update(1, 128, 512, 1e-3),
        f"{layers}.0.mlp.down_proj": random_update(4, 128, 512, 0.0),
        # as many of rank 3 as of rank 4: which is the common one must not depend on the order
        "model.vision_tower.encoder.layers.0.mlp.fc1": random_update(3, 512, 128),
        "model.vision_tower.encoder.layers.1.mlp.fc1": random_update(3, 512, 128),
        "model.multi_modal_projector.linear": random_update(3, 128, 128),
    }


def test_plain_peft_loads_what_is_written(tiny: nn.Module, tmp_path: Path) -> None:
    updates = tiny_updates()
    write_adapter(tmp_path, updates, BASE, revision="abc")
    adapted = PeftModel.from_pretrained(tiny, tmp_path)
    loaded = deltas(adapted)
    config = adapted.peft_config["default"]
    adapted.unload()
    assert set(loaded) == set(updates)  # no other module got a LoRA
    for name, update in updates.items():
        expected = update.scale * update.b @ update.a
        assert (loaded[name] - expected).norm() <= 1e-6 * expected.norm(), name
    assert (config.base_model_name_or_path, config.revision) == (BASE, "abc")
    assert (config.task_type, config.lora_dropout, config.use_rslora) == ("CAUSAL_LM", 0, False)


def test_our_reader_reads_what_is_written(tmp_path: Path) -> None:
    updates = tiny_updates()
    write_adapter(tmp_path, updates, BASE)
    adapter = read_adapter(tmp_path)
    assert_close(adapter.updates, {name: update.dense() for name, update in updates.items()})
    assert all(adapter.alphas[name] == update.rank for name, update in updates.items())
    errors = verify_adapter(tmp_path, updates)
    assert list(errors) == sorted(updates) and max(errors.values()) < 1e-6


def test_the_bytes_do_not_depend_on_the_order_or_the_run(tmp_path: Path) -> None:
    updates = tiny_updates()
    write_adapter(tmp_path / "a", updates, BASE)
    write_adapter(tmp_path / "b", dict(reversed(updates.items())), BASE)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_rounded_file_is_off_by_more_than_a_whole_one(tmp_path: Path) -> None:
    updates = tiny_updates()
    write_adapter(tmp_path, updates, BASE, dtype=torch.bfloat16)
    assert read_adapter(tmp_path).dtypes == ("bfloat16",)
    with pytest.raises(RuntimeError, match=r"written wrongly: .* is off by \d\.\de-03 of its norm"):
        verify_adapter(tmp_path, updates)
    # 8 bits: a relative rounding of at most 2^-9 = 2e-3 in each of two factors
    assert 1e-4 < max(verify_adapter(tmp_path, updates, tolerance=1e-2).values()) < 4e-3


def test_the_error_found_is_the_relative_difference_of_the_matrices(tmp_path: Path) -> None:
    torch.manual_seed(0)
    update = random_update(1, 6, 7)  # one term: its norm is the update's
    write_adapter(tmp_path, {Q: update}, BASE)
    other = LowRank(b=update.b + 0.1 * torch.randn(6, 1), a=update.a, scale=1.1)
    expected = (other.dense() - update.dense()).norm() / other.dense().norm()
    (error,) = verify_adapter(tmp_path, {Q: other}, tolerance=10).values()
    assert error == pytest.approx(float(expected), rel=1e-5)


def test_terms_that_cancel_do_not_look_like_damage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    update = random_update(4, 20, 30)
    zero = LowRank(
        b=torch.cat([update.b, update.b], dim=1), a=torch.cat([update.a, -update.a]), scale=0.7
    )
    write_adapter(tmp_path, {Q: zero}, BASE)
    assert verify_adapter(tmp_path, {Q: zero})[Q] < 1e-6


def test_a_file_of_other_modules_is_no_success(tmp_path: Path) -> None:
    updates = tiny_updates()
    write_adapter(tmp_path, updates, BASE)
    name = "model.multi_modal_projector.linear"
    with pytest.raises(RuntimeError, match=f"{name} is in only one of file and merge"):
        verify_adapter(tmp_path, {key: update for key, update in updates.items() if key != name})


def layer_names() -> Iterator[str]:
    for index in range(12):
        for module in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"):
            yield f"model.language_model.layers.{index}.{module}"
        yield f"model.vision_tower.encoder.layers.{index}.self_attn.q_proj"
    yield from ("lm_head", "model.multi_modal_projector.linear", "model.experts.1.2.w", "a+b")


@pytest.mark.parametrize("seed", range(5))
def test_the_pattern_matches_the_chosen_modules_and_no_others(seed: int) -> None:
    names = list(layer_names())
    torch.manual_seed(seed)
    chosen = [names[i] for i in torch.randperm(len(names))[: 5 + 10 * seed]]
    pattern = re.compile(exact_pattern(chosen))
    near = [name[1:] for name in names] + [f"x.{name}" for name in names] + ["model1lm_head", "aab"]
    assert {name for name in names + near if pattern.fullmatch(name)} == set(chosen)


def test_layers_that_have_the_same_modules_share_one_line() -> None:
    names = [f"layers.{i}.{name}" for i in (10, 2, 1) for name in ("v_proj", "q_proj")]
    assert exact_pattern(names) == r"layers\.(?:1|2|10)(?:\.q_proj|\.v_proj)"


def test_modules_of_the_common_rank_need_no_pattern(tmp_path: Path) -> None:
    write_adapter(tmp_path, tiny_updates(), BASE)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 4
    assert sorted(config["rank_pattern"].values()) == [1, 3, 32]
    assert config["alpha_pattern"] == config["rank_pattern"]
