"""Phi-3-Vision as far as it goes without its code: the layout, the ids, the layers that train."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

from finetuning.training.lora import linear_layers, target_modules
from models.phi3_vision import Phi3Vision
from models.settings import FamilyOptions
from tests.models.tiny_families import TINY

# As in tokenizer_config.json of microsoft/Phi-3-vision-128k-instruct.
TEMPLATE = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + "
    "'<|end|>\n' }}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' "
    "%}{{- '<|assistant|>\n' -}}{% endif %}"
)


class Images:
    """Stands for the checkpoint's image processor: a whole image and one tile, 3 tokens."""

    def __call__(self, images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": torch.zeros(len(images), 2, 3, 4, 4),
            "image_sizes": torch.tensor([[336, 672]] * len(images)),
            "num_img_tokens": torch.tensor([3] * len(images)),
        }


@pytest.fixture
def family(tmp_path: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(TINY / "tokenizer.json"),
        bos_token="<s>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|end|>", "<|image|>"],
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    family: Any = Phi3Vision(str(tmp_path))
    family.image_processor = Images()
    return family


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_an_image_is_its_negative_ids_and_the_text_behind_starts_anew(
    family: Any, template: str | None
) -> None:
    family.options = FamilyOptions(chat_template=template)
    question = ("user", "what is shown in this image?")
    encoded = family.encode(Image.new("RGB", (9, 9)), [question, ("assistant", "a cat")])
    ((start, end),) = encoded.image_spans
    decode = family.tokenizer.decode
    assert encoded.input_ids[start : start + 3] == [-1, -1, -1]
    assert decode(encoded.input_ids[:start]) == "<s><|user|>\n"
    assert decode(encoded.input_ids[start + 3 : end]) == "<s>"
    learned = [id_ for id_, t in zip(encoded.input_ids, encoded.is_target, strict=True) if t]
    assert decode(learned) == "a cat<|end|>"
    asked = "\nwhat is shown in this image?<|end|>\n<|assistant|>\n"
    assert decode(encoded.input_ids[end : -len(learned)]) == asked


def test_tiles_and_sizes_of_a_batch_are_stacked(family: Any) -> None:
    encoded = family.encode(Image.new("RGB", (9, 9)), [("user", "what?")])
    batch = family.collate([encoded, encoded])
    assert batch["pixel_values"].shape == (2, 2, 3, 4, 4)
    assert batch["image_sizes"].tolist() == [[336, 672], [336, 672]]


def tree(names: list[str]) -> torch.nn.Module:
    """A model with linear layers of these names."""
    root = torch.nn.Module()
    for name in names:
        module = root
        *path, leaf = name.split(".")
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.add_module(leaf, torch.nn.Linear(2, 2))
    return root


def test_lora_leaves_the_tower_inside_the_language_model_alone(family: Any) -> None:
    language = [f"model.layers.0.self_attn.{name}_proj" for name in ("o", "qkv")]
    language += [f"model.layers.0.mlp.{name}_proj" for name in ("down", "gate_up")]
    tower = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers.0.self_attn"
    model = tree([*language, f"{tower}.q_proj", "lm_head"])
    model.get_output_embeddings = lambda: model.lm_head  # type: ignore[assignment]
    regex = target_modules(model, family, "attention,ffn")
    chosen = [name for name in linear_layers(model) if re.fullmatch(regex, name)]
    assert sorted(chosen) == sorted(language)
    assert not any(name.startswith(family.unquantized_modules) for name in chosen)
