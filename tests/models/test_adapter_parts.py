"""All parts of an adapter count: whole tensors, biases, patterns, and each field of its config."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.adapter_files import read_adapter_files
from models.adapter_loading import check_alone_on_base, put_adapter, why_not_without
from models.checkpoint import resolve
from models.loading import LoadedModel
from models.run_record import read_run
from tests.models.test_adapter_loading import (
    PREFIX,
    Tensors,
    check_applied,
    edit,
    make_adapter,
    rename,
)

EMBEDDINGS = f"{PREFIX}model.language_model.embed_tokens.weight"


def test_patterns_of_former_names_count_where_the_targets_fit_as_they_are(
    llava: LoadedModel, tmp_path: Path
) -> None:
    name = "model.language_model.layers.0.self_attn.q_proj"
    patterns = {"rank_pattern": {name: 2}, "alpha_pattern": {name: 64}}
    expected = make_adapter(llava, tmp_path, target_modules=["q_proj", "up_proj"], **patterns)

    def former(name: str) -> str:
        return name.replace("model.language_model.", "language_model.model.")

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        rename(tensors, former)
        config.update(
            {key: {former(n): v for n, v in given.items()} for key, given in patterns.items()}
        )

    edit(tmp_path, change)
    check_applied(llava, tmp_path, expected)


def test_whole_tensors_in_the_file_change_the_base(llava: LoadedModel, tmp_path: Path) -> None:
    make_adapter(llava, tmp_path, modules_to_save=["multi_modal_projector"])
    check_alone_on_base(llava.family.empty_model, tmp_path)  # the module is the adapter's own
    assert why_not_without(tmp_path) is None
    whole = llava.model.model.language_model.embed_tokens.weight.detach() + 1
    edit(tmp_path, lambda tensors, _: tensors.update({EMBEDDINGS: whole}))
    with pytest.raises(ValueError, match=r"changes weights of the base .+embed_tokens\.weight"):
        check_alone_on_base(llava.family.empty_model, tmp_path)
    assert "embed_tokens.weight" in (why_not_without(tmp_path) or "")


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_that_the_config_speaks_of_must_be_there(
    llava: LoadedModel, tmp_path: Path, bias: str
) -> None:
    targets = r".*vision_tower.*layers\.0.*q_proj"  # the decoder's layers have no bias
    make_adapter(llava, tmp_path, bias=bias, target_modules=targets)
    put_adapter(llava.model, tmp_path).unload()

    def without(tensors: Tensors, _: dict[str, Any]) -> None:
        for key in [key for key in tensors if "q_proj" in key and key.endswith(".bias")]:
            del tensors[key]

    edit(tmp_path, without)
    with pytest.raises(ValueError, match=r"lacks \d+ of the whole tensors .+q_proj\.bias first"):
        put_adapter(llava.model, tmp_path)


FIELDS: dict[str, Any] = {
    "r": [0, "4", None],
    "lora_alpha": [float("nan"), float("inf"), 1e39, "8", None],
    "alpha_pattern": [{"q_proj": float("nan")}, {"(": 4}, ["q_proj"]],
    "rank_pattern": [{"q_proj": 0}, {"(": 4}],
    "target_modules": ["q_proj(", 5, [1]],
    "exclude_modules": ["(", 3],
    "modules_to_save": ["lm_head", ["("], [1]],
    "layers_to_transform": ["1"],
    "layers_pattern": ["("],
    "bias": ["some", None],
    "lora_dropout": [2.0, "x"],
    "use_dora": ["true"],
    "task_type": [3],
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_not_what_it_must_be_is_named(
    llava: LoadedModel, tmp_path: Path, field: str
) -> None:
    make_adapter(llava, tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    for value in FIELDS[field]:
        path.write_text(json.dumps(config | {field: value}))
        with pytest.raises(ValueError, match=rf"^{path} .*{field}.*; save it anew"):
            read_adapter_files(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"peft_type": "FOO"}, {"task_type": "FOO"}, {"init_lora_weights": "foo"}], ids=str
)
def test_what_peft_does_not_take_is_said_of_the_adapter(
    llava: LoadedModel, tmp_path: Path, changes: dict[str, str]
) -> None:
    make_adapter(llava, tmp_path)
    edit(tmp_path, lambda _, config: config.update(changes))
    with pytest.raises(ValueError, match=rf"^PEFT does not take adapter {tmp_path} \(.+\); save"):
        put_adapter(llava.model, tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_numbers_that_are_no_weights_are_refused(
    llava: LoadedModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    make_adapter(llava, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({key: tensor.to(dtype) for key, tensor in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=rf"in {str(dtype)[6:]}; weights are float16, bfloat16"):
        read_adapter_files(tmp_path)


def test_float64_beyond_float32_is_infinite(llava: LoadedModel, tmp_path: Path) -> None:
    make_adapter(llava, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = {key: tensor.double() for key, tensor in load_file(path).items()}
    save_file(tensors, path)
    read_adapter_files(tmp_path)
    next(iter(tensors.values()))[0, 0] = 1e39
    save_file(tensors, path)
    with pytest.raises(ValueError, match="has NaN or Inf in"):
        read_adapter_files(tmp_path)


def test_a_base_that_nothing_vouches_for_is_said(
    llava: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_adapter(llava, tmp_path)
    base = llava.checkpoint.base
    said = json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert said == base
    resolve(str(tmp_path), base_model=base)
    resolve(str(tmp_path))
    assert not caplog.records
    resolve(str(tmp_path), base_model="tiny")
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"trained on {base}; whether" in line and "is not known" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"task": 5},
        {"settings": {"model_type": 5}},
        {"settings": {"max_length": "x"}},
        {"settings": {}, "asked_as": 5},
    ],
    ids=str,
)
def test_a_record_of_other_types_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}} | changes))
    with pytest.raises(ValueError, match=rf"run\.json is not a run\.json .*{list(changes)[-1]}"):
        read_run(tmp_path)
