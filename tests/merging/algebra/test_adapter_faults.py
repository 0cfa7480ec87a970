"""Adapters that are damaged or do not fit are refused."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn

from merging.algebra.adapters import Adapter, check_same_base, check_shapes
from merging.algebra.low_rank import LowRank
from merging.algebra.reader import read_adapter
from merging.algebra.writer import verify_adapter, write_adapter
from models.adapter_targets import exact_pattern
from tests.merging.algebra.adapter_files import (
    BASE,
    K,
    Layers,
    assert_close,
    check_sentence,
    layer_names,
    make_file,
    make_full_model,
    make_no_safetensors,
    make_no_weights,
    make_nothing,
    make_pickle_of_code,
    make_pickle_of_numbers,
    make_strange_run,
    make_torn_config,
    make_torn_pickle,
    make_truncated,
    random_update,
    tiny_updates,
)
from tests.merging.algebra.make_adapters import Q, deltas, train


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
        (make_torn_config, "adapter_config.json is not valid JSON"),
        (make_truncated, "adapter_model.safetensors is damaged"),
        (make_no_safetensors, "adapter_model.safetensors is damaged"),
        (make_pickle_of_code, "adapter_model.bin is damaged or holds more than tensors"),
        (make_pickle_of_numbers, "adapter_model.bin is not a table of tensors"),
        (make_torn_pickle, "adapter_model.bin is damaged or holds more than tensors"),
        (make_strange_run, "run.json is not a run.json .+base_fingerprint"),
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


def test_factors_beyond_the_dtype_are_no_fault_of_an_adapter_s_training(tmp_path: Path) -> None:
    update = LowRank(b=torch.full((6, 1), 1e-30), a=torch.full((1, 7), math.inf), scale=1.0)
    with pytest.raises(
        ValueError, match=f"merge of {Q} has NaN or values that torch.float32 has not; pass"
    ):
        write_adapter(tmp_path / "out", {Q: update}, BASE)
    assert not (tmp_path / "out").exists()


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
