"""LLaVA-NeXT: tokens of grids worked by hand, the model's features, batches, the budget."""

from pathlib import Path

import pytest
import torch

from models.checkpoint import resolve
from models.encoding import Message
from models.llava_next import LlavaNext
from models.loading import LoadedModel, load_family, load_model
from models.settings import Decoding, FamilyOptions
from tests.models.examples import image, text_of
from tests.models.tiny_families import maker

SIZES = [(80, 50), (32, 32), (64, 64), (50, 33), (7, 100), (200, 9), (96, 31), (1, 900), (300, 299)]
QUESTION: list[Message] = [("user", "What is shown in this image?")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava_next")
    maker("llava_next")(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(resolve(str(folder)), quantization="none", device="cpu")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        # grids of 336 pixels, 24 features a side; the whole image is 24 x 24 = 576
        (672, 672, 2928),  # 2 x 2 tiles, all kept: 48 rows of 48 and a newline
        (640, 480, 2340),  # 2 x 2; 480 * 48 / 640 = 36 rows: 576 + 36 * 49
        (500, 333, 1464),  # 1 x 2 is enough; 500 * 24 / 333 = 36.0 columns: 576 + 24 * 37
        (1024, 899, 2634),  # 2 x 2; 899 * 48 / 1024 = 42.1 rows: 576 + 42 * 49
        # 3 x 1; 100 * 72 / 1000 = 7.2 columns, (24 - 7) // 2 = 8 go on each side: 576 + 72 * 9
        (100, 1000, 1224),
    ],
)
def test_an_image_has_the_tokens_of_the_whole_and_of_the_rows_of_its_grid(
    width: int, height: int, expected: int
) -> None:
    from transformers import LlavaNextConfig

    family = LlavaNext("somewhere")
    family.config = LlavaNextConfig()  # that of llava-hf/llava-v1.6-mistral-7b-hf
    assert family.num_tokens(height, width) == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_model_makes_a_feature_for_each_token(
    loaded: LoadedModel, size: tuple[int, int]
) -> None:
    example = loaded.family.encode(image(size), QUESTION)
    with torch.no_grad():
        features = loaded.model.get_image_features(
            example.pixels["pixel_values"][None], example.pixels["image_sizes"][None]
        )
    assert example.num_image_tokens == len(features.pooler_output[0])


@pytest.mark.parametrize("size", SIZES[:5])
def test_the_tokens_are_those_of_the_real_processor(folder: Path, size: tuple[int, int]) -> None:
    from transformers import LlavaNextProcessor

    family = load_family(resolve(str(folder)))
    processor = LlavaNextProcessor(
        family.image_processor,
        family.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    text = f"[INST] <image>\n{QUESTION[0][1]} [/INST]"
    expected = processor(images=image(size), text=text, return_tensors="pt")
    example = family.encode(image(size), QUESTION)
    assert example.input_ids == expected["input_ids"][0].tolist()
    for name in ("pixel_values", "image_sizes"):
        assert torch.equal(example.pixels[name], expected[name][0])


def test_a_conversation_is_laid_out_as_the_documentation_prints_it(folder: Path) -> None:
    family = load_family(resolve(str(folder)))
    talk = [*QUESTION, ("assistant", "A red stop sign."), ("user", "Describe it.")]
    # the card of llava-hf/llava-v1.6-mistral-7b-hf; its tokenizer starts texts with <s>
    assert text_of(family, family.encode(image((80, 50)), talk)) == (
        "<s>[INST] <image>\nWhat is shown in this image? [/INST] A red stop sign.</s> "
        "[INST] Describe it. [/INST]"
    ).replace("<s>", "<bos>").replace("</s>", "<eos>")


def test_images_of_different_grids_share_a_batch(loaded: LoadedModel) -> None:
    family = loaded.family
    examples = [family.encode(image(size), QUESTION) for size in ((64, 64), (32, 60))]
    batch = family.collate(examples)
    # 2 x 2 and 2 x 1 tiles, and the whole
    assert batch["pixel_values"].shape == (2, 5, 3, 32, 32)
    assert torch.equal(batch["pixel_values"][1, :3], examples[1].pixels["pixel_values"])
    assert batch["image_sizes"].tolist() == [[64, 64], [60, 32]]


def test_beams_of_a_batch_answer_as_alone(loaded: LoadedModel) -> None:
    family, decoding = loaded.family, Decoding(max_new_tokens=4, num_beams=2)
    examples = [family.encode(image(size), QUESTION) for size in ((64, 64), (32, 60), (7, 90))]
    alone = [family.generate(loaded.model, [example], decoding)[0] for example in examples]
    assert family.generate(loaded.model, examples, decoding) == alone
    assert len(set(alone)) > 1  # they depend on the image


def test_an_image_is_cut_as_the_model_counts(folder: Path) -> None:
    family = load_family(resolve(str(folder)))
    family.image_processor.image_grid_pinpoints = [[32, 64]]  # beside the five of the config
    assert len(family.process_image(image((64, 64)))[0]["pixel_values"]) == 5  # 2 x 2 and the whole


def test_the_budget_takes_a_smaller_grid(folder: Path) -> None:
    family = load_family(resolve(str(folder), options=FamilyOptions(max_pixels=2 * 32 * 32)))
    pixels, ids = family.process_image(image((100, 100)))
    # of the grids of 2 tiles 1 x 2 is the first; 100 pixels become 32: 4 rows of 4, and newlines
    assert pixels["image_sizes"].tolist() == [32, 32]
    assert len(ids) == 16 + 4 * 5


@pytest.mark.parametrize("max_tiles", [2, 3])
def test_no_image_has_more_pixels_in_tiles_than_the_budget(folder: Path, max_tiles: int) -> None:
    options = FamilyOptions(max_pixels=max_tiles * 32 * 32 + 7)
    family = load_family(resolve(str(folder), options=options))
    free = load_family(resolve(str(folder)))
    for size in SIZES:
        tiles = family.process_image(image(size))[0]["pixel_values"]
        assert len(tiles) - 1 <= max_tiles
        if len(free.process_image(image(size))[0]["pixel_values"]) - 1 <= max_tiles:
            assert torch.equal(tiles, free.process_image(image(size))[0]["pixel_values"])


def test_the_budget_is_kept_beside_an_adapter(folder: Path, tmp_path: Path) -> None:
    options = FamilyOptions(max_pixels=2 * 32 * 32)
    load_family(resolve(str(folder), options=options)).save(str(tmp_path))
    again = LlavaNext(str(folder), saved=str(tmp_path))
    assert len(again.process_image(image((100, 100)))[1]) == 36  # as above; 88 without it


def test_a_budget_under_the_smallest_grid_is_refused(folder: Path) -> None:
    checkpoint = resolve(str(folder), options=FamilyOptions(max_pixels=2047))
    with pytest.raises(ValueError, match=r"--max_pixels must be at least 2048, the smallest grid"):
        load_family(checkpoint)


def test_other_image_sizes_have_no_meaning() -> None:
    with pytest.raises(ValueError, match=r"--image_size has no meaning .* set by --max_pixels"):
        LlavaNext("somewhere", options=FamilyOptions(image_size=64))
