"""An adapter is put on a model whole, whatever its names are, or it is refused."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetuning.training.doctor import drawn_conversations
from finetuning.training.probe_tools import encode_to_train, logits_of
from models.adapter_files import read_adapter_files
from models.adapter_loading import put_adapter
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from models.names import canonical, former_names
from tests.models.tiny_families import NAMES, maker

PREFIX = "base_model.model."
Tensors = dict[str, Tensor]
Change = Callable[[Tensors, dict[str, Any]], None]


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    return load_model(resolve(str(folder)), quantization="none", dtype="fp32", device="cpu")


def logits(loaded: LoadedModel, model: Any) -> Tensor:
    return logits_of(
        replace(loaded, model=model.eval()), [encode_to_train(loaded, drawn_conversations()[0])]
    )


def make_adapter(loaded: LoadedModel, folder: Path, **config: Any) -> Tensor:
    """Save an adapter with an effect by plain PEFT; return the logits that it gives."""
    pattern = rf"{re.escape(loaded.family.language_model)}\..*(?:q_proj|up_proj|fc1)"
    fields = {"r": 4, "lora_alpha": 6, "target_modules": pattern, "task_type": "CAUSAL_LM"}
    torch.manual_seed(0)
    adapted = get_peft_model(loaded.model, LoraConfig(**{**fields, **config}))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save.default" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    try:
        expected = logits(loaded, adapted)
        adapted.save_pretrained(folder)
    finally:
        adapted.unload()
    return expected


def edit(folder: Path, change: Change) -> Path:
    """Change an adapter's tensors and config in place."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    change(tensors, config)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def rename(tensors: Tensors, new_name: Callable[[str], str]) -> None:
    for key, tensor in list(tensors.items()):
        del tensors[key]
        tensors[new_name(key)] = tensor


def with_former_names(model_type: str) -> Change:
    """As an earlier transformers saved it: tensors, regex and patterns by former names."""

    def former(name: str) -> str:
        return next(iter(former_names(name, model_type)), name)

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        rename(tensors, lambda key: PREFIX + former(key.removeprefix(PREFIX)))
        modules = sorted({key.split(".lora_")[0].removeprefix(PREFIX) for key in tensors})
        config["target_modules"] = "|".join(map(re.escape, modules))

    return change


def check_applied(loaded: LoadedModel, folder: Path, expected: Tensor) -> None:
    before = logits(loaded, loaded.model)
    adapted = put_adapter(loaded.model, folder)
    try:
        assert torch.equal(logits(loaded, adapted), expected)
    finally:
        adapted.unload()
    assert (expected - before).abs().max() > 0.01 * before.std()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as PEFT saves it": lambda key: key,
    "compiled": lambda key: key.replace(PREFIX, f"{PREFIX}_orig_mod."),
    "compiled with the adapter": lambda key: f"_orig_mod.{key}",
    "compiled layer by layer": lambda key: re.sub(r"(layers\.\d+\.)", r"\1_orig_mod.", key),
    "with the adapter's name": lambda key: key.replace(".weight", ".my_task.weight"),
    "under DDP": lambda key: f"module.{key}",
    "without the prefix": lambda key: key.removeprefix(PREFIX),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_of_the_names_changes_nothing(
    llava: LoadedModel, spelling: str, tmp_path: Path
) -> None:
    expected = make_adapter(llava, tmp_path)
    edit(tmp_path, lambda tensors, _: rename(tensors, SPELLINGS[spelling]))
    check_applied(llava, tmp_path, expected)


def test_former_names_give_the_same_answers(loaded: LoadedModel, tmp_path: Path) -> None:
    expected = make_adapter(
        loaded, tmp_path, rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 9}
    )
    edit(tmp_path, with_former_names(loaded.model.config.model_type))
    check_applied(loaded, tmp_path, expected)


def test_an_adapter_that_lacks_a_layer_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    make_adapter(loaded, tmp_path)
    removed = min(load_file(tmp_path / "adapter_model.safetensors")).split(".lora_")[0]

    def remove(tensors: Tensors, _: dict[str, Any]) -> None:
        for part in ("lora_A", "lora_B"):
            del tensors[f"{removed}.{part}.weight"]

    edit(tmp_path, remove)
    with pytest.raises(ValueError, match="lacks the updates of 1 layers") as caught:
        put_adapter(loaded.model, tmp_path)
    assert removed.removeprefix(PREFIX) in str(caught.value)


def del_last(tensors: Tensors) -> None:
    del tensors[max(tensors)]


def test_an_adapter_of_a_layer_that_is_not_there_is_refused(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    make_adapter(loaded, tmp_path)
    edit(tmp_path, lambda tensors, _: rename(tensors, lambda key: key.replace(".1.", ".7.")))
    with pytest.raises(ValueError, match=r"layers\.7\..*, which the base model does not have"):
        put_adapter(loaded.model, tmp_path)


def test_half_of_a_layer_is_refused(llava: LoadedModel, tmp_path: Path) -> None:
    make_adapter(llava, tmp_path)
    edit(tmp_path, lambda tensors, _: del_last(tensors))
    with pytest.raises(ValueError, match="the file has no values for 1 tensors"):
        put_adapter(llava.model, tmp_path)


def test_a_projector_that_is_saved_whole_is_found_under_its_former_name(
    llava: LoadedModel, tmp_path: Path
) -> None:
    expected = make_adapter(llava, tmp_path, modules_to_save=["multi_modal_projector"])
    edit(tmp_path, with_former_names("llava"))
    check_applied(llava, tmp_path, expected)

    def remove(tensors: Tensors, _: dict[str, Any]) -> None:
        del tensors[f"{PREFIX}multi_modal_projector.linear_2.bias"]

    edit(tmp_path, remove)
    with pytest.raises(ValueError, match=r"lacks 1 of the whole tensors .+linear_2\.bias first"):
        put_adapter(llava.model, tmp_path)


def test_whole_tensors_beside_the_adapter_are_used(llava: LoadedModel, tmp_path: Path) -> None:
    name = "model.multi_modal_projector.linear_1.weight"
    before = llava.model.get_parameter(name).detach().clone()
    drawn = torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
    make_adapter(llava, tmp_path)
    with torch.no_grad():
        llava.model.get_parameter(name).copy_(drawn)
    expected = make_adapter(llava, tmp_path)
    with torch.no_grad():
        llava.model.get_parameter(name).copy_(before)
    torch.save(
        {f"{PREFIX}multi_modal_projector.linear_1.weight": drawn},
        tmp_path / "non_lora_state_dict.bin",
    )
    check_applied(llava, tmp_path, expected)
    with torch.no_grad():
        llava.model.get_parameter(name).copy_(before)


@pytest.mark.parametrize("key", ["model.mm_projector.0.weight", "lm_head.weight"])
def test_whole_tensors_that_are_not_the_bases_are_refused(
    llava: LoadedModel, key: str, tmp_path: Path
) -> None:
    make_adapter(llava, tmp_path)
    torch.save({f"{PREFIX}{key}": torch.ones(2, 2)}, tmp_path / "non_lora_trainables.bin")
    with pytest.raises(ValueError, match=rf"{key} \(2, 2\) is no tensor of the base model"):
        put_adapter(llava.model, tmp_path)


def test_embeddings_of_more_tokens_are_named_as_the_reason(
    llava: LoadedModel, tmp_path: Path
) -> None:
    make_adapter(llava, tmp_path)
    rows, columns = llava.model.get_input_embeddings().weight.shape

    def enlarge(tensors: Tensors, _: dict[str, Any]) -> None:
        tensors[f"{PREFIX}model.language_model.embed_tokens.weight"] = torch.ones(rows + 3, columns)

    edit(tmp_path, enlarge)
    with pytest.raises(ValueError, match=f"with {rows + 3} token embeddings .* has {rows}; save"):
        put_adapter(llava.model, tmp_path)


def test_an_embedding_that_the_base_has_not_is_refused(llava: LoadedModel, tmp_path: Path) -> None:
    make_adapter(llava, tmp_path)

    def add(tensors: Tensors, _: dict[str, Any]) -> None:
        tensors[f"{PREFIX}model.other.embed_tokens.weight"] = torch.ones(4, 4)

    edit(tmp_path, add)
    with pytest.raises(ValueError, match=r"no place for 1 tensors, .*other\.embed_tokens"):
        put_adapter(llava.model, tmp_path)


def test_what_goes_in_is_read_under_canonical_names(loaded: LoadedModel, tmp_path: Path) -> None:
    make_adapter(loaded, tmp_path)
    model_type = loaded.model.config.model_type
    plain = dict(read_adapter_files(tmp_path, model_type).tensors)
    edit(tmp_path, with_former_names(model_type))
    files = read_adapter_files(tmp_path, model_type)
    assert same(files.tensors, plain)
    assert len(files.tensors) == len(load_file(tmp_path / "adapter_model.safetensors"))
    assert all(canonical(name, model_type) == name for name in files.tensors)


def same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in found
    )
