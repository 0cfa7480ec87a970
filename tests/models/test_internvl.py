"""InternVL: tiles, their order and budget, layout, parity; the format that cannot be read."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoint import resolve
from models.encoding import Encoded, Message
from models.internvl import InternVL
from models.loading import LoadedModel, load_family, load_model
from models.settings import FamilyOptions
from tests.models.examples import image
from tests.models.tiny_families import maker

SIZES = [(80, 50), (32, 32), (64, 64), (96, 32), (20, 200), (1, 1), (31, 65)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("internvl")
    maker("internvl")(folder)
    return str(folder)


@pytest.fixture(scope="module")
def loaded(folder: str) -> LoadedModel:
    return load_model(resolve(folder), quantization="none", device="cpu")


def with_options(folder: str, **options: Any) -> InternVL:
    family = load_family(resolve(folder, options=FamilyOptions(**options)))
    assert isinstance(family, InternVL)
    return family


def encoded(family: Any, size: tuple[int, int], *messages: Message) -> Encoded:
    return family.encode(image(size), messages or [("user", "what is it?")])


def num_tiles(example: Encoded) -> int:
    return len(example.pixels["pixel_values"])


def pixels_of(family: Any, tile: torch.Tensor) -> np.ndarray:
    """Values from 0 to 255 of a tile, by the published mean and deviation of ImageNet."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return np.asarray((tile.permute(1, 2, 0).numpy() * deviation + mean) * 255).round()


@pytest.mark.parametrize(
    ("size", "tiles"),
    [  # at most 6 of 32 pixels; the whole image is one more unless there is one tile alone
        ((80, 50), 7),  # 1.6 is nearest to 3:2
        ((32, 32), 1),  # 1:1 and 2:2 are equally near; four tiles are over twice the image
        ((64, 64), 5),  # here they are not
        ((96, 32), 4),  # 3:1
        ((20, 200), 7),  # 0.1 is nearest to 1:6
    ],
)
def test_an_image_is_cut_into_the_grid_of_the_nearest_proportions(
    folder: str, size: tuple[int, int], tiles: int
) -> None:
    example = encoded(with_options(folder), size)
    assert num_tiles(example) == tiles
    assert example.num_image_tokens == 4 * tiles + 2  # (32 / 8 / 2) squared a tile, <img>, </img>


def test_a_tile_of_the_published_settings_is_256_tokens(folder: str) -> None:
    # 448 pixels, patches of 14, half as many a side after the shuffle: 16 x 16; 800 x 600 is 4:3,
    # 12 tiles, and the whole
    family = with_options(folder)
    family.config.vision_config.patch_size = (14, 14)
    family.image_processor.size = {"height": 448, "width": 448}
    family.image_processor.max_patches = 12
    assert encoded(family, (800, 600)).num_image_tokens == 13 * 256 + 2


def test_the_model_makes_a_feature_for_each_token_of_any_image(loaded: LoadedModel) -> None:
    for size in SIZES:
        example = encoded(loaded.family, size)
        with torch.no_grad():
            features = loaded.model.get_image_features(**example.pixels).pooler_output
        num_features = features.shape[0] * features.shape[1]
        assert example.input_ids.count(loaded.family.image_token_id) == num_features


def test_tiles_go_row_by_row_and_the_whole_image_is_the_last(folder: str) -> None:
    family = with_options(folder)
    shown = image((64, 64))  # 2 x 2 tiles: nothing is stretched
    tiles = encoded(family, (64, 64)).pixels["pixel_values"]
    corners = [(0, 0), (32, 0), (0, 32), (32, 32)]
    for tile, (left, top) in zip(tiles, corners, strict=False):
        cut = np.asarray(shown.crop((left, top, left + 32, top + 32)))
        assert np.array_equal(pixels_of(family, tile), cut)
    whole = np.asarray(shown.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(pixels_of(family, tiles[-1]), whole)
    assert np.array_equal(np.asarray(family.render_image(encoded(family, (64, 64)))), whole)


def test_every_tensor_equals_that_of_the_real_processor(loaded: LoadedModel) -> None:
    """Its parts are asked for their classes, and that for videos cannot be without torchvision."""
    from transformers import InternVLProcessor

    family = loaded.family
    with mock.patch.object(InternVLProcessor, "check_argument_for_proper_class"):
        processor = InternVLProcessor(family.image_processor, family.tokenizer, image_seq_length=4)
    questions = ["what is it?", "and how many shapes are there?", "a"]
    images = [image(size, seed) for seed, size in enumerate(SIZES[:3])]
    turns = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        for question in questions
    ]
    texts = family.tokenizer.apply_chat_template(
        turns, chat_template=family.template, tokenize=False, add_generation_prompt=True
    )
    theirs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    ours = family.collate(
        [
            family.encode(image, [("user", question)])
            for image, question in zip(images, questions, strict=True)
        ]
    )
    assert set(ours) - {"labels"} == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_the_layout_is_the_published_one(folder: str) -> None:
    # the example of transformers' own tests (tests/models/internvl/test_modeling_internvl.py),
    # its context token as many times as one tile has
    family = with_options(folder)
    example = encoded(family, (32, 32), ("user", "Please describe the image explicitly."))
    assert family.tokenizer.decode(example.input_ids) == (
        f"<|im_start|>user\n<img>{'<IMG_CONTEXT>' * 4}</img>\n"
        "Please describe the image explicitly.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_all_turns_of_the_assistant_are_learned_and_nothing_else(folder: str) -> None:
    family = with_options(folder)
    example = encoded(
        family,
        (80, 50),
        *[("system", "Be brief."), ("user", "what is it?"), ("assistant", "a circle")],
        *[("user", "which colour?"), ("assistant", "red")],
    )
    learned = [i for i, on in zip(example.input_ids, example.is_target, strict=True) if on]
    assert family.tokenizer.decode(learned) == "a circle<|im_end|>red<|im_end|>"


@pytest.mark.parametrize("text", ["a <IMG_CONTEXT> b", "</img>", "<|im_end|>"])
def test_special_tokens_in_a_question_stay_text(folder: str, text: str) -> None:
    family = with_options(folder)
    special = set(family.tokenizer.all_special_ids)
    plain, _ = family.tokenize([("user", "")])
    ids, _ = family.tokenize([("user", text)])
    assert sum(i in special for i in ids) == sum(i in special for i in plain)
    assert text in family.tokenizer.decode([i for i in ids if i != -1])


@pytest.mark.parametrize(
    ("options", "size", "tiles"),
    [
        ({"max_pixels": 4095}, (80, 50), 3),  # three tiles at most: 1.6 is nearest to 2:1
        ({"max_pixels": 2047}, (80, 50), 1),
        ({"min_pixels": 3073}, (32, 32), 5),  # four at least
    ],
)
def test_pixels_hold_the_number_of_tiles(
    folder: str, options: dict[str, int], size: tuple[int, int], tiles: int
) -> None:
    assert num_tiles(encoded(with_options(folder, **options), size)) == tiles


def test_the_budget_of_a_training_is_kept_for_what_comes_after(folder: str, tmp_path: Path) -> None:
    trained = with_options(folder, max_pixels=2048)
    trained.save(str(tmp_path))
    later = InternVL(folder, saved=str(tmp_path))
    assert num_tiles(encoded(later, (80, 50))) == 3  # 7 otherwise
    assert later.tokenize([("user", "a")]) == trained.tokenize([("user", "a")])


@pytest.mark.parametrize(
    ("options", "least", "most"),
    [
        ({"max_pixels": 1023}, 1, 0),
        ({"min_pixels": 6 * 1024 + 1}, 7, 6),
        ({"min_pixels": 2049, "max_pixels": 2050}, 3, 2),
    ],
)
def test_pixels_of_no_tiles_are_refused(
    folder: str, options: dict[str, int], least: int, most: int
) -> None:
    with pytest.raises(ValueError) as error:
        encoded(with_options(folder, **options), (80, 50))
    assert str(error.value) == (
        f"--min_pixels to --max_pixels must hold a whole number of tiles of 1024 pixels for "
        f"{folder}, got at least {least} and at most {most}; where one is left out, it is the "
        "checkpoint's."
    )


def test_the_side_of_a_tile_is_not_the_users(folder: str) -> None:
    with pytest.raises(ValueError, match=r"--min_pixels and --max_pixels; leave it out\."):
        with_options(folder, image_size=64)


@pytest.mark.parametrize("model_type", [None, "internvl", "llava"])
def test_the_authors_own_format_is_refused_with_what_to_take(
    tmp_path: Path, model_type: str | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    with pytest.raises(ValueError) as error:
        resolve(str(tmp_path), model_type=model_type)
    assert str(error.value) == (
        f"{tmp_path} is in its authors' own format (model_type internvl_chat), which transformers "
        "cannot read; pass its native equivalent, such as OpenGVLab/InternVL3-2B-hf or "
        "OpenGVLab/InternVL2_5-2B-MPO-hf."
    )
