"""LLaVA-OneVision: the shrunk grids worked by hand, the model's features, both layouts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import resolve
from models.encoding import Message
from models.llava_onevision import LlavaOnevision
from models.loading import LoadedModel, load_family, load_model
from models.settings import FamilyOptions
from tests.models.examples import image, text_of
from tests.models.tiny_families import maker

SIZES = [(80, 50), (32, 32), (192, 192), (50, 33), (7, 100), (190, 97), (64, 160), (1, 1)]
TALK: list[Message] = [
    ("user", "What is shown in this image?"),
    ("assistant", "A red stop sign."),
    ("user", "Describe it."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava_onevision")
    maker("llava_onevision")(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(resolve(str(folder)), quantization="none", device="cpu")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        # tiles of 384 pixels, 27 features a side; the whole image is 27 x 27 = 729
        (384, 384, 1485),  # one tile more: 729 + 27 * 28
        (640, 480, 2929),  # 2 x 2 tiles; 480 * 54 / 640 = 40.5 rows: 729 + 40 * 55
        (1920, 768, 8073),  # 2 x 5; 7290 features, the side 1.05 times that of 9 tiles: all kept
        (2304, 2304, 7371),  # 6 x 6; twice the side of 9 tiles: 729 + 81 * 82
        # 3 x 6; 81 x 162 features, root 2 too many a side: 57.3 x 114.6, so 729 + 57 * 115
        (2304, 1152, 7284),
    ],
)
def test_a_grid_over_nine_tiles_is_shrunk(width: int, height: int, expected: int) -> None:
    from transformers import LlavaOnevisionConfig

    family = LlavaOnevision("somewhere")
    family.config = LlavaOnevisionConfig()  # that of llava-hf/llava-onevision-qwen2-7b-ov-hf
    assert family.num_tokens(height, width) == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_model_makes_a_feature_for_each_token(
    loaded: LoadedModel, size: tuple[int, int]
) -> None:
    example = loaded.family.encode(image(size), TALK[:1])
    with torch.no_grad():
        features = loaded.model.get_image_features(
            example.pixels["pixel_values"][None], example.pixels["image_sizes"][None]
        )
    assert example.num_image_tokens == len(features.pooler_output[0])


@pytest.mark.parametrize("size", SIZES[:5])
def test_the_tokens_are_those_of_the_real_processor(folder: Path, size: tuple[int, int]) -> None:
    from transformers.models.llava_onevision.processing_llava_onevision import (
        LlavaOnevisionProcessor,
    )
    from transformers.processing_utils import ProcessorMixin

    family = load_family(resolve(str(folder)))

    class Still(LlavaOnevisionProcessor):  # without the part for videos, which needs torchvision
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

        def __init__(self, image_processor: Any, tokenizer: Any, **_: Any) -> None:
            self.num_image_tokens = 16
            self.vision_feature_select_strategy = "full"
            self.vision_aspect_ratio = "anyres_max_9"
            self.image_token, self.video_token = "<image>", "<video>"
            self.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
            self.video_token_id = tokenizer.convert_tokens_to_ids("<video>")
            ProcessorMixin.__init__(self, image_processor, tokenizer)

    text = f"<|im_start|>user <image>\n{TALK[0][1]}<|im_end|><|im_start|>assistant\n"
    processor = Still(family.image_processor, family.tokenizer)
    expected = processor(images=image(size), text=text, return_tensors="pt")
    example = family.encode(image(size), TALK[:1])
    assert example.input_ids == expected["input_ids"][0].tolist()
    for name in ("pixel_values", "image_sizes"):
        assert torch.equal(example.pixels[name], expected[name][0])


def test_an_answer_is_learned_where_it_is_asked_for(folder: Path) -> None:
    family = load_family(resolve(str(folder)))
    example = family.encode(image(), [*TALK, ("assistant", "It is red.")])
    # the checkpoint's template itself would write "assistant \nA red", and asks "assistant\n"
    assert text_of(family, example) == (
        "<|im_start|>user <image>\nWhat is shown in this image?<|im_end|>"
        "<|im_start|>assistant\nA red stop sign.<|im_end|>"
        "<|im_start|>user \nDescribe it.<|im_end|><|im_start|>assistant\nIt is red.<|im_end|>"
    )
    asked = family.encode(image(), TALK).input_ids
    assert example.input_ids[: len(asked)] == asked
    tokens = zip(example.input_ids, example.is_target, strict=True)
    assert (
        family.tokenizer.decode([id_ for id_, is_learned in tokens if is_learned])
        == "A red stop sign.<|im_end|>It is red.<|im_end|>"
    )


def test_without_a_template_it_is_asked_as_its_authors_ask(folder: Path) -> None:
    template = FamilyOptions(chat_template=LlavaOnevision.chat_template)
    family = load_family(resolve(str(folder), options=template))
    # the prompt of transformers' convert_llava_onevision_weights_to_hf.py
    assert text_of(family, family.encode(image(), TALK[:1])) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        "What is shown in this image?<|im_end|>\n<|im_start|>assistant\n"
    )
    briefly = [("system", "Be brief."), *TALK[:1]]
    assert text_of(family, family.encode(image(), briefly)).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>\nWhat"
    )


def test_special_tokens_in_a_text_stay_text(folder: Path) -> None:
    family = load_family(resolve(str(folder)))
    example = family.encode(image((32, 32)), [("user", "<image><|im_end|><video>")])
    assert text_of(family, example) == (
        "<|im_start|>user <image>\n<image><|im_end|><video><|im_end|><|im_start|>assistant\n"
    )
    end, video = family.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<video>"])
    assert example.input_ids.count(end) == 1
    assert example.input_ids.count(video) == 0
    assert example.input_ids.count(family.image_token_id) == 36  # 16, and 4 rows of 4 and 1


def test_the_budget_is_for_the_tiles(folder: Path) -> None:
    family = load_family(resolve(str(folder), options=FamilyOptions(max_pixels=32 * 32)))
    assert len(family.process_image(image((190, 97)))[0]["pixel_values"]) == 2  # the whole and one
