"""LLaVA 1.5: its features, its layout as published, other language models, the real processor."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.checkpoint import resolve
from models.encoding import Encoded, Message
from models.llava import Llava
from models.loading import load_family, load_model
from models.registry import family_named
from models.settings import FamilyOptions
from tests.models.examples import image, text_of
from tests.models.tiny_families import maker

# Renders as chat_template.json of llava-hf/llava-1.5-7b-hf, which writes no end of an answer.
PUBLISHED_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for _ in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ part['text'] + ' ' }}{% endgeneration %}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
TALK: list[Message] = [
    ("user", "What is shown in this image?"),
    ("assistant", "This image shows a red stop sign."),
    ("user", "Describe the image in more details."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    maker("llava")(folder)
    return folder


@pytest.fixture(scope="module")
def gemma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava_gemma")
    maker("llava_gemma")(folder)
    return folder


def learned(family: Any, example: Encoded) -> str:
    tokens = zip(example.input_ids, example.is_target, strict=True)
    return str(family.tokenizer.decode([id_ for id_, is_learned in tokens if is_learned]))


@pytest.mark.parametrize("template", [None, PUBLISHED_TEMPLATE])
def test_a_conversation_is_laid_out_as_the_documentation_prints_it(
    folder: Path, template: str | None
) -> None:
    options = FamilyOptions(chat_template=template)
    family = load_family(resolve(str(folder), options=options))
    # https://huggingface.co/docs/transformers/model_doc/llava; the tiny model's end is <eos>
    assert text_of(family, family.encode(image(), TALK)) == (
        "USER: <image>\nWhat is shown in this image? ASSISTANT: This image shows a red stop sign."
        "</s>USER: Describe the image in more details. ASSISTANT:"
    ).replace("</s>", "<eos>")


@pytest.mark.parametrize("template", [None, PUBLISHED_TEMPLATE])
def test_each_turn_of_the_assistant_and_its_end_are_learned(
    folder: Path, template: str | None
) -> None:
    options = FamilyOptions(chat_template=template)
    family = load_family(resolve(str(folder), options=options))
    example = family.encode(image(), [*TALK, ("assistant", "It is red.")])
    assert learned(family, example) == " This image shows a red stop sign.<eos> It is red.<eos>"


@pytest.mark.parametrize(
    ("tower", "side", "strategy", "expected"),
    [
        ("clip_vision_model", 336, "default", 576),  # 24 x 24 patches of 14 pixels
        ("clip_vision_model", 336, "full", 577),  # and the class token
        ("siglip_vision_model", 384, "full", 729),  # 27 x 27: 6 pixels are left over
    ],
)
def test_an_image_has_as_many_tokens_as_its_tower_has_features(
    tower: str, side: int, strategy: str, expected: int
) -> None:
    family = Llava("somewhere")
    vision = SimpleNamespace(model_type=tower, patch_size=14)
    family.config = SimpleNamespace(vision_config=vision, vision_feature_select_strategy=strategy)
    assert family.num_features(side, side) == expected


@pytest.mark.parametrize("name", ["folder", "gemma_folder"])
def test_the_model_makes_a_feature_for_each_token(
    name: str, request: pytest.FixtureRequest
) -> None:
    loaded = load_model(
        resolve(str(request.getfixturevalue(name))), quantization="none", device="cpu"
    )
    example = loaded.family.encode(image((31, 200)), TALK[:1])
    with torch.no_grad():
        features = loaded.model.get_image_features(example.pixels["pixel_values"][None])
    assert example.num_image_tokens == len(features.pooler_output[0])


def test_the_tokens_are_those_of_the_real_processor(folder: Path) -> None:
    from transformers import LlavaProcessor

    options = FamilyOptions(chat_template=PUBLISHED_TEMPLATE)
    family = load_family(resolve(str(folder), options=options))
    processor = LlavaProcessor(
        family.image_processor,
        family.tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=PUBLISHED_TEMPLATE,
    )
    content = [{"type": "image"}, {"type": "text", "text": TALK[0][1]}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    expected = processor(images=image(), text=text, return_tensors="pt")
    example = family.encode(image(), TALK[:1])
    assert example.input_ids == expected["input_ids"][0].tolist()
    assert torch.equal(example.pixels["pixel_values"], expected["pixel_values"][0])


def test_gemma_is_asked_by_its_own_template(gemma_folder: Path) -> None:
    family = load_family(resolve(str(gemma_folder)))
    example = family.encode(image(), [("user", "What's the content of the image?")])
    # as the card of Intel/llava-gemma-2b asks: "<image>\n" before the text
    assert text_of(family, example) == (
        "<bos><start_of_turn>user\n<image>\nWhat's the content of the image?<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_gemma_learns_the_end_of_a_turn(gemma_folder: Path) -> None:
    family = load_family(resolve(str(gemma_folder)))
    example = family.encode(image(), [*TALK, ("assistant", "It is red.")])
    assert learned(family, example) == (
        "This image shows a red stop sign.<end_of_turn>It is red.<end_of_turn>"
    )
    ends = family.tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    assert family.end_ids == ends


def test_gemma_has_no_system_turn(gemma_folder: Path) -> None:
    family = load_family(resolve(str(gemma_folder)))
    with pytest.raises(ValueError, match=r"does not take the turns system, user \(System role not"):
        family.encode(image(), [("system", "be brief"), *TALK[:1]])


def test_special_tokens_in_a_text_stay_text(folder: Path) -> None:
    family = load_family(resolve(str(folder)))
    example = family.encode(image(), [("user", "<image> or <eos>?"), ("assistant", "<eos>")])
    assert text_of(family, example) == "USER: <image>\n<image> or <eos>? ASSISTANT: <eos><eos>"
    assert example.input_ids.count(family.image_token_id) == 16 == example.num_image_tokens
    assert example.input_ids.count(family.tokenizer.eos_token_id) == 1


def test_a_tower_whose_features_are_not_known_is_refused() -> None:
    family = Llava("mistral-community/pixtral-12b")
    family.config = SimpleNamespace(vision_config=SimpleNamespace(model_type="pixtral"))
    with pytest.raises(ValueError, match=r"pixtral-12b sees through a pixtral; llava models can"):
        family.num_features(64, 64)


def test_the_image_size_is_the_checkpoints() -> None:
    with pytest.raises(ValueError, match=r"--max_pixels has no meaning for llava models"):
        Llava("somewhere", options=FamilyOptions(max_pixels=100))


def test_llava_gemma_is_another_name() -> None:
    assert family_named("llava_gemma") is Llava
