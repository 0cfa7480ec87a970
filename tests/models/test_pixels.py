"""The quick image steps give what the checkpoint's own processor gives, to the bit."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from common.threads import map_ahead
from models import pixels
from models.base import Family
from models.checkpoint import resolve
from models.loading import load_family
from tasks.decoding import decode_image
from tests.models.tiny_families import NAMES, maker

MODES = ("L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "RGB")
SIZES = ((80, 50), (33, 97), (1, 7), (7, 1), (301, 40), (64, 64))


def stored(mode: str, size: tuple[int, int]) -> bytes:
    """An image file of a mode, with noise in every channel."""
    noise = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 251)
    else:
        start = Image.fromarray(noise, "RGBA")
        image = start if mode in ("RGBA", "LA") else start.convert("RGB")
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "CMYK" else "PNG")
    return file.getvalue()


@pytest.fixture(scope="module", params=NAMES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Family, Family]:
    """A family, and the same with the processor as the library has it."""
    folder = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    family = load_family(resolve(str(folder)))
    _ = family.image_processor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "quickened", lambda processor: processor)
        plain = load_family(resolve(str(folder)))
        _ = plain.image_processor  # kept by the family
    return family, plain


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_the_tensors_are_the_processors(
    pair: tuple[Family, Family], mode: str, size: tuple[int, int]
) -> None:
    family, plain = pair
    image = decode_image(stored(mode, size), "noise")
    assert (image.mode == "L") == (mode in ("L", "1", "I;16"))
    question = [("user", "what?")]
    quick, slow = family.encode(image, question), plain.encode(image.convert("RGB"), question)
    assert quick.input_ids == slow.input_ids
    assert list(quick.pixels) == list(slow.pixels)
    for name in quick.pixels:
        assert torch.equal(quick.pixels[name], slow.pixels[name]), name
        assert quick.pixels[name].dtype == slow.pixels[name].dtype


def test_a_batch_of_images_has_the_tensors_of_each(pair: tuple[Family, Family]) -> None:
    family, plain = pair
    images = [decode_image(stored(mode, size), "noise") for mode in ("L", "RGB") for size in SIZES]
    question = [("user", "what?")]
    for image, seen in zip(images, family.prepare([[image] for image in images]), strict=True):
        (quick,) = family.put_together(seen, [question])
        slow = plain.encode(image.convert("RGB"), question)
        assert quick.input_ids == slow.input_ids
        assert quick.pixels.keys() == slow.pixels.keys()
        for name in quick.pixels:
            assert torch.equal(quick.pixels[name], slow.pixels[name]), name


def test_threads_prepare_what_one_does(pair: tuple[Family, Family]) -> None:
    family, _ = pair
    images = [decode_image(stored(mode, size), "noise") for mode in ("L", "RGB") for size in SIZES]
    talks = [[("user", "what?")]]
    ahead = map_ahead(lambda image: family.prepare([[image]])[0], 4 * images, 4)
    for image, seen in zip(4 * images, ahead, strict=True):
        (found,), (alone,) = family.put_together(seen, talks), family.encode_all([image], talks)
        assert found.input_ids == alone.input_ids
        for name in alone.pixels:
            assert torch.equal(found.pixels[name], alone.pixels[name]), name


def test_every_family_takes_the_quick_steps(pair: tuple[Family, Family]) -> None:
    quick, plain = (family.image_processor for family in pair)
    assert isinstance(quick, type(plain)) and type(quick) is not type(plain)
    grey = Image.new("L", (9, 5))
    assert pixels.as_taken(grey, quick) is grey
    assert pixels.as_taken(grey, plain).mode == "RGB"


def test_a_worker_that_was_not_forked_gets_the_same_family(pair: tuple[Family, Family]) -> None:
    # macOS and Windows start workers anew and send them what they need, pickled
    family, _ = pair
    image = decode_image(stored("L", (80, 50)), "noise")
    sent = pickle.loads(pickle.dumps(family))
    assert sent.image_processor.process_image.__func__ is pixels._QuickSteps.process_image
    here, there = (one.encode(image, [("user", "what?")]) for one in (family, sent))
    assert here.input_ids == there.input_ids
    for name in here.pixels:
        assert torch.equal(here.pixels[name], there.pixels[name]), name


def processed(processor: Any, image: Image.Image) -> Tensor:
    tensor: Tensor = processor(images=image, return_tensors="pt")["pixel_values"]
    return tensor


@pytest.mark.parametrize(
    "changes",
    [
        {"do_resize": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"resample": 0},
        {"resample": 2},
        {"size": {"shortest_edge": 40}},
        {"size": {"shortest_edge": 40, "longest_edge": 55}},
        {"size": {"max_height": 40, "max_width": 55}},
        {"do_pad": True, "pad_size": {"height": 99, "width": 120}},
        {"do_center_crop": True, "crop_size": {"height": 31, "width": 90}},
        {"image_mean": 0.3, "image_std": 0.7},
        {"do_convert_rgb": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_settings_of_a_processor_count(tmp_path: Path, changes: dict[str, Any], mode: str) -> None:
    maker("paligemma")(tmp_path)
    quick, plain = (
        AutoImageProcessor.from_pretrained(tmp_path, backend="pil", **changes) for _ in "ab"
    )
    image = decode_image(stored(mode, (83, 57)), "noise")
    found = processed(pixels.quickened(quick), image)
    assert torch.equal(found, processed(plain, image.convert("RGB")))


def test_a_quick_processor_is_saved_under_the_librarys_name(
    pair: tuple[Family, Family], tmp_path: Path
) -> None:
    for family, name in zip(pair, ("quick", "plain"), strict=True):
        family.save(str(tmp_path / name))
    files = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert sorted(path.name for path in (tmp_path / "quick").iterdir()) == files
    for name in files:
        assert (tmp_path / "quick" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_a_processor_of_another_kind_is_left_alone() -> None:
    class Strange:
        pass

    strange = Strange()
    assert pixels.quickened(strange) is strange
    assert type(strange) is Strange
    assert pixels.as_taken(Image.new("L", (3, 3)), strange).mode == "RGB"
