"""Adapters that are no LoRA: those of layers answer as in PEFT, those of prompts are refused."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import save_file

from models.adapter_loading import check_adapter
from models.loading import LoadedModel
from tests.models.test_adapter_loading import PREFIX, Tensors, check_applied, edit, logits

QV = {"target_modules": ["q_proj", "v_proj"]}
ADALORA = {"init_r": 4, "target_r": 2, "total_step": 9, "tinit": 1, "tfinal": 1, "lora_alpha": 32}
OF_LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "IA3": ("IA3Config", {"target_modules": ["q_proj", "fc2"], "feedforward_modules": ["fc2"]}),
    "LoHa": ("LoHaConfig", {"r": 2, "alpha": 8, **QV}),
    "LoKr": ("LoKrConfig", {"r": 2, "alpha": 8, **QV}),
    "AdaLoRA": ("AdaLoraConfig", {**ADALORA, **QV}),
    "LayerNorm": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
}


def save(loaded: LoadedModel, folder: Path, config: Any) -> None:
    """An adapter by plain PEFT, each of its numbers moved."""
    torch.manual_seed(0)
    adapted = get_peft_model(loaded.model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn_like(parameter)
    adapted.save_pretrained(folder)
    adapted.unload()


def by_peft(loaded: LoadedModel, folder: Path) -> torch.Tensor:
    adapted = PeftModel.from_pretrained(loaded.model, str(folder))
    try:
        return logits(loaded, adapted)
    finally:
        adapted.unload()


@pytest.mark.parametrize("name", OF_LAYERS)
def test_an_adapter_of_layers_answers_as_in_peft(
    llava: LoadedModel, tmp_path: Path, name: str
) -> None:
    kind, settings = OF_LAYERS[name]
    save(llava, tmp_path, getattr(peft, kind)(task_type="CAUSAL_LM", **settings))
    check_applied(llava, tmp_path, by_peft(llava, tmp_path))


def test_ranks_that_adalora_gave_up_stay_so(llava: LoadedModel, tmp_path: Path) -> None:
    save(llava, tmp_path, peft.AdaLoraConfig(task_type="CAUSAL_LM", **ADALORA, **QV))
    kept = [True, False, True, False]

    def give_up(tensors: Tensors, config: dict[str, Any]) -> None:
        config["rank_pattern"] = {}
        for key in [key for key in tensors if key.endswith("lora_E")]:
            name = f"{key.removeprefix(PREFIX)}.default"
            config["rank_pattern"][name] = kept
            for part in ("lora_A", "lora_E"):
                own = key.replace("lora_E", part)
                tensors[own] = tensors[own][kept].contiguous()
            own = key.replace("lora_E", "lora_B")
            tensors[own] = tensors[own][:, kept].contiguous()

    edit(tmp_path, give_up)
    check_applied(llava, tmp_path, by_peft(llava, tmp_path))


@pytest.mark.parametrize(
    "kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"]
)
def test_an_adapter_of_prompts_is_refused_by_its_type(
    llava: LoadedModel, tmp_path: Path, kind: str
) -> None:
    config = getattr(peft, kind)(
        task_type="CAUSAL_LM",
        num_virtual_tokens=3,
        token_dim=64,
        num_layers=2,
        num_attention_heads=2,
        num_transformer_submodules=1,
    )
    config.save_pretrained(tmp_path)
    save_file({"prompt_embeddings": torch.zeros(3, 64)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=rf"is of type {config.peft_type.value}, which learns a"):
        check_adapter(llava.family.empty_model, tmp_path)
