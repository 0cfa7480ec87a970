"""What merge_vlm.py does with adapters and bases out of the ordinary: merge, warn or refuse.

Each refusal is one sentence that names the adapter, exit code 2, and nothing at the output.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from tests.helpers import read_json, sentence
from tests.merging.algebra.make_adapters import load_tiny
from tests.merging.merge_inputs import (
    LAYERS,
    Q0,
    TINY,
    by_peft,
    edit_config,
    edit_tensors,
    run,
    write_adapter,
    write_adapters,
)

KEY = f"base_model.model.{Q0}"
EMBEDDING = "base_model.model.model.language_model.embed_tokens"
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapters(tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def own(adapters: Path, tmp_path: Path) -> Path:
    """Adapters a and b, to be changed."""
    for name in "ab":
        shutil.copytree(adapters / name, tmp_path / "in" / name)
    return tmp_path / "in"


def nothing(tensors: dict[str, Tensor]) -> None:
    """Leave them as they are."""


def drop(key: str) -> Change:
    return lambda tensors: tensors.pop(key)


def put(**by_suffix: Tensor) -> Change:
    """Set tensors of the first module, by names with `__` for dots."""
    renamed = {f"{KEY}.{name.replace('__', '.')}": value for name, value in by_suffix.items()}
    return lambda tensors: tensors.update(renamed)


def set_value(value: float) -> Change:
    return lambda tensors: tensors[f"{KEY}.lora_B.weight"].view(-1)[:1].fill_(value)


def widen(tensors: dict[str, Tensor]) -> None:
    tensors[f"{KEY}.lora_A.weight"] = torch.ones(4, 64)


def rename(part: str, to: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if part in key]:
            tensors[key.replace(part, to)] = tensors.pop(key)

    return change


REFUSED: dict[str, tuple[dict[str, Any], Change, tuple[object, ...], str]] = {
    "another base": (
        {"base_model_name_or_path": "google/paligemma2-3b"},
        nothing,
        (),
        f"was trained on google/paligemma2-3b, not on {TINY}",
    ),
    "a shape that is not the base's, even where its name may differ": (
        {},
        widen,
        ("--allow_base_mismatch",),
        f"changes {Q0} by a 128 x 64 matrix, and the base model has 128 x 128 there",
    ),
    "a module that the base has not": (
        {},
        rename("layers.0.self_attn.q_proj", "layers.9.self_attn.q_proj"),
        (),
        "layers.9.self_attn.q_proj, which the base model does not have",
    ),
    "A without B": ({}, drop(f"{KEY}.lora_B.weight"), (), f"module {Q0} has no lora_B"),
    "rows of A that are not r": (
        {"r": 8},
        nothing,
        (),
        "has 4 rows in lora_A and 4 columns in lora_B, and by adapter_config.json its rank is 8",
    ),
    "a key that nothing explains": (
        {},
        put(lora_C__weight=torch.ones(2)),
        (),
        f"holds {KEY}.lora_C.weight, which its adapter_config.json does not explain",
    ),
    "DoRA in an adapter": (
        {"use_dora": True},
        lambda tensors: tensors.update(
            {
                key.replace("lora_A", "lora_magnitude_vector"): torch.ones(
                    len(tensors[key.replace("lora_A", "lora_B")])
                )
                for key in list(tensors)
                if "lora_A" in key
            }
        ),
        ("--export", "adapter"),
        "uses DoRA, whose update is not low rank",
    ),
    "biases in an adapter": (
        {"lora_bias": True},
        lambda tensors: tensors.update(
            {
                key.replace("weight", "bias"): torch.ones(len(tensors[key]))
                for key in list(tensors)
                if "lora_B" in key
            }
        ),
        ("--export", "adapter"),
        "has lora_bias: updates of biases",
    ),
    "trained biases in an adapter": (
        {"bias": "lora_only"},
        put(bias=torch.ones(128)),
        ("--export", "adapter"),
        "holds whole tensors beside its LoRA",
    ),
    "added tokens": (
        {"modules_to_save": ["embed_tokens"]},
        lambda tensors: tensors.update({f"{EMBEDDING}.weight": torch.ones(3, 128)}),
        (),
        "model.language_model.embed_tokens.weight of shape (3, 128), and the base has one of shape",
    ),
    "NaN": ({}, set_value(float("nan")), (), f"has NaN or Inf in {KEY}.lora_B.weight"),
    "Inf": ({}, set_value(float("inf")), (), f"has NaN or Inf in {KEY}.lora_B.weight"),
    "another kind of adapter": (
        {"peft_type": "LOHA"},
        nothing,
        (),
        "is of type LOHA, which is not supported yet",
    ),
    "target_parameters": (
        {"target_parameters": ["experts.up"]},
        nothing,
        (),
        "was trained with target_parameters, which is not supported yet",
    ),
    "LoRA of an embedding": (
        {},
        lambda tensors: tensors.update({f"{EMBEDDING}.lora_embedding_A": torch.ones(4, 9)}),
        (),
        "adapts an embedding",
    ),
    "LoRA of a convolution": (
        {},
        put(lora_A__weight=torch.ones(4, 3, 2, 2)),
        (),
        "convolutions are not supported yet",
    ),
    "fan_in_fan_out": (
        {"fan_in_fan_out": True},
        nothing,
        (),
        "was trained with fan_in_fan_out, which is not supported yet",
    ),
    "PiSSA": ({"init_lora_weights": "pissa"}, nothing, (), "was started by pissa"),
    "OLoRA": ({"init_lora_weights": "olora"}, nothing, (), "was started by olora"),
    "CorDA": ({"init_lora_weights": "corda"}, nothing, (), "was started by corda"),
    "layer_replication": (
        {"layer_replication": [[0, 2]]},
        nothing,
        (),
        "was trained with layer_replication, which is not supported yet",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence_that_names_the_adapter_and_leaves_nothing(
    name: str, own: Path, tmp_path: Path
) -> None:
    config, change, options, part = REFUSED[name]
    edit_config(own / "a", **config)
    edit_tensors(own / "a", change)
    result = run(own, tmp_path / "out", "--mode", "linear", *options)
    message = sentence(result.exit_code, result.output)
    assert part in message and str(own / "a") in message
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("export", ["adapter", "full"])
@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            "linear --lambda 1e39",
            "--weights 0.5,0.5 and --lambda 1e+39 scale updates beyond 3.4",
        ),
        ("linear --weights 1e300,1", "--weights 1e+300,1.0 and --lambda 1.0 scale updates beyond"),
        (
            "ties --weights 1e300,1e300 --lambda 1e300",
            "1e+300,1e+300 and --lambda 1e+300",
        ),
        ("tsv --lambda=-1e39", "--lambda -1e+39 scale updates beyond"),
        ("core_ties --lambda 1e308", "--lambda 1e+308 scale updates beyond"),
    ],
)
def test_numbers_too_large_are_named_as_the_cause(
    export: str, options: str, part: str, adapters: Path, tmp_path: Path
) -> None:
    words = ("--mode", *options.split(), "--export", export)
    result = run(adapters, tmp_path / "out", *words)
    assert part in sentence(result.exit_code, result.output)
    assert not [*tmp_path.iterdir()]


def test_an_adapter_whose_update_float32_has_not_is_named(own: Path, tmp_path: Path) -> None:
    edit_tensors(own / "b", lambda tensors: [tensor.mul_(1e25) for tensor in tensors.values()])
    result = run(own, tmp_path / "out", "--mode", "linear")
    message = sentence(result.exit_code, result.output)
    assert f"Adapter {own / 'b'} has updates of norm" in message and "lora_alpha" in message


def test_a_share_too_small_to_divide_by_keeps_nothing(adapters: Path, tmp_path: Path) -> None:
    options = ("--mode", "dare_linear", "--density", 1e-300)
    result = run(adapters, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    found, base = (load_file(place / "model.safetensors") for place in (tmp_path / "out", TINY))
    assert all(torch.equal(tensor, base[name]) for name, tensor in found.items())


def test_a_pickle_is_merged_where_it_holds_tensors_alone(own: Path, tmp_path: Path) -> None:
    weights = own / "a/adapter_model.safetensors"
    torch.save(load_file(weights), own / "a/adapter_model.bin")
    assert run(own, tmp_path / "safe", "--mode", "linear").exit_code == 0
    weights.unlink()
    result = run(own, tmp_path / "out", "--mode", "linear")
    assert result.exit_code == 0, result.output
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("safe", "out")]
    assert files[0].read_bytes() == files[1].read_bytes()
    torch.save({"x": Path("run me")}, own / "a/adapter_model.bin")
    result = run(own, tmp_path / "refused", "--mode", "linear")
    assert "holds more than tensors" in sentence(result.exit_code, result.output)
    assert not (tmp_path / "refused").exists()


def test_a_copy_of_the_base_under_the_same_name_is_taken_with_a_warning(
    own: Path, tmp_path: Path
) -> None:
    edit_config(own / "a", base_model_name_or_path="elsewhere/tiny")
    result = run(own, tmp_path / "out", "--mode", "linear")
    assert result.exit_code == 0, result.output
    assert f"was trained on elsewhere/tiny; {TINY} is taken to be the same model." in result.output


def test_an_adapter_given_twice_is_merged_with_a_warning(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "a", own / "copy")
    result = run(own, tmp_path / "out", "--mode", "linear", names=["a", "b", "copy"])
    assert result.exit_code == 0, result.output
    warning = f"{own / 'a'} and {own / 'copy'} hold the same weights, so one adapter counts 2 times"
    assert f"Warning: {warning}" in result.output
    said = read_json(tmp_path / "out/merge_report.json")["warnings"]
    assert [text.startswith(warning) for text in said].count(True) == 1
    result = run(own, tmp_path / "two", "--mode", "linear")
    assert result.exit_code == 0 and "the same weights" not in result.output


def test_of_a_quantised_base_an_adapter_can_be_written_and_no_full_model(
    own: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(TINY, tmp_path / "base/tiny")
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    result = run(own, tmp_path / "adapter", "--mode", "linear", base=base)
    assert result.exit_code == 0, result.output
    result = run(own, tmp_path / "full", "--mode", "ties", base=base)
    message = sentence(result.exit_code, result.output)
    assert "is quantised (gptq) and a full export needs the unquantised base" in message
    assert not (tmp_path / "full").exists()


def test_an_untrained_adapter_is_merged_with_a_warning(own: Path, tmp_path: Path) -> None:
    def zero(tensors: dict[str, Tensor]) -> None:
        for key, tensor in tensors.items():
            if "lora_B" in key:
                tensor.zero_()

    edit_tensors(own / "a", zero)
    for mode in ("balanced", "slerp", "ties", "core_ties", "tsv"):
        result = run(own, tmp_path / mode, "--mode", mode)
        assert result.exit_code == 0, result.output
        assert f"Adapter {own / 'a'} changes nothing" in result.output
        (path,) = (tmp_path / mode).glob("*model.safetensors")
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_an_adapter_of_a_convolution_of_the_base_is_refused_as_such(tmp_path: Path) -> None:
    write_adapter(tmp_path / "conv", r=2, target_modules=["patch_embedding", "q_proj"])
    result = run(tmp_path, tmp_path / "out", names=["conv"])
    message = sentence(result.exit_code, result.output)
    assert "patch_embedding has a lora_A of shape (2, 3, 16, 16)" in message
    assert "convolutions are not supported yet" in message


def test_a_density_that_keeps_nothing_gives_the_base_and_a_warning(
    own: Path, tmp_path: Path
) -> None:
    # floor(1e-6 * 512 * 128) = 0 of the largest module's entries
    result = run(own, tmp_path / "out", "--mode", "ties", "--density", 1e-6)
    assert result.exit_code == 0, result.output
    assert "The density keeps no entry of any module: the result changes nothing." in result.output
    found, base = (load_file(place / "model.safetensors") for place in (tmp_path / "out", TINY))
    assert all(torch.equal(tensor, base[name]) for name, tensor in found.items())


def test_adapters_of_other_dtypes_are_merged_and_listed(own: Path, tmp_path: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({key: tensor.bfloat16() for key, tensor in tensors.items()})

    edit_tensors(own / "b", halve)
    result = run(own, tmp_path / "out", "--mode", "linear")
    assert result.exit_code == 0, result.output
    inputs = read_json(tmp_path / "out/merge_report.json")["inputs"]
    assert [row["dtypes"] for row in inputs] == [["float32"], ["bfloat16"]]


def exported(folder: Path) -> dict[str, Tensor]:
    return PaliGemmaForConditionalGeneration.from_pretrained(folder).state_dict()


def test_dora_and_its_biases_are_exported_as_peft_merges_them(own: Path, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "dora": {"target_modules": LAYERS, "use_dora": True},
        "bias": {"target_modules": r".*vision_tower.*\.0\..*q_proj", "lora_bias": True},
    }
    base = load_tiny().state_dict()
    for name, config in settings.items():
        write_adapter(own / name, r=2, lora_alpha=6, **config)
        options = ("--save_dtype", "float32")
        result = run(own, tmp_path / name, *options, names=[name])
        assert result.exit_code == 0, result.output
        alone, expected = exported(tmp_path / name), by_peft(own / name)
        for key, value in alone.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)
    changed = [key for key in expected if not torch.equal(expected[key], base[key])]
    assert any(key.endswith("q_proj.bias") for key in changed)
    result = run(own, tmp_path / "two", "--mode", "linear", *options, names=["dora", "bias"])
    assert result.exit_code == 0, result.output
    both = {name: by_peft(own / name) for name in settings}
    for key, value in exported(tmp_path / "two").items():
        average = (both["dora"][key] + both["bias"][key]) / 2
        torch.testing.assert_close(value, average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("export", ["adapter", "full"])
def test_a_base_without_a_processor_is_merged_and_what_is_missing_is_said(
    adapters: Path, tmp_path: Path, export: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(TINY / name, base)
    options = ("--mode", "linear", "--export", export, "--allow_base_mismatch")
    result = run(adapters, tmp_path / "out", *options, base=base)
    assert result.exit_code == 0, result.output
    said = [line for line in result.output.splitlines() if "processor" in line]
    assert len(said) == 1 and "No processor is written beside the merge" in said[0]
    assert not list((tmp_path / "out").glob("tokenizer*"))
    assert (tmp_path / "out/README.md").is_file()
