"""Images decode as a person would see them, or the error names them."""

import io
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks import decoding, images
from tasks.base import Dataset
from tasks.decoding import decode_image
from tasks.images import ArrayImage, FileImage, check_dataset, missing_images
from tests.helpers import REPOSITORY, Load, one_sentence
from tests.official_files import write_vqav2


def encode(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def pixel(content: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = decode_image(content, "picture")
    assert image.mode in ("RGB", "L")
    value = image.convert("RGB").getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def test_an_image_keeps_its_published_size(tmp_path: Path) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "a.jpg")
    assert FileImage(str(tmp_path / "a.jpg")).open().size == (31, 17)


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image = Image.new("RGB", (30, 20), "white")
    image.paste("red", (0, 0, 10, 20))  # the left third, so upright the top third
    upright = decode_image(encode(image, "PNG", exif=exif), "picture")
    assert upright.size == (20, 30)
    assert upright.getpixel((10, 2)) == (255, 0, 0)


def test_16_bit_grey_is_scaled_not_clipped_to_white() -> None:
    grey = Image.fromarray(np.full((2, 2), 32896, np.uint16))  # 128 * 257
    assert pixel(encode(grey)) == (128, 128, 128)


def test_float_grey_between_0_and_1_is_scaled() -> None:
    grey = Image.fromarray(np.array([[0.0, 1.0]], np.float32))
    assert pixel(encode(grey, "TIFF"), 1, 0) == (255, 255, 255)
    assert pixel(encode(grey, "TIFF"), 0, 0) == (0, 0, 0)


def test_alpha_is_laid_on_white() -> None:
    assert pixel(encode(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(encode(Image.new("LA", (1, 1), (0, 0)))) == (255, 255, 255)


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    content = encode(image, transparency=0)
    assert pixel(content, 0, 0) == (255, 255, 255)
    assert pixel(content, 1, 0) == (0, 0, 255)


def test_a_palette_without_transparency_gives_its_colours() -> None:
    assert pixel(encode(Image.new("RGB", (1, 1), "red").quantize())) == (255, 0, 0)


def test_cmyk_comes_out_in_its_colours() -> None:
    red, green, blue = pixel(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert (red > 240, green < 20, blue < 20) == (True, True, True)


def test_one_bit_scans_are_black_and_white() -> None:
    assert pixel(encode(Image.new("1", (1, 1), 1), "TIFF")) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixel(content) == (255, 0, 0)


def test_a_truncated_image_is_named() -> None:
    content = encode(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
    with one_sentence("page.jpg is truncated or damaged", "replace it, or remove what asks"):
        decode_image(content[: len(content) // 2], "page.jpg")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_what_is_no_image_is_named(content: bytes) -> None:
    with one_sentence("page.jpg is not an image"):
        decode_image(content, "page.jpg")


def test_an_absent_image_is_named(tmp_path: Path) -> None:
    with one_sentence(f"{tmp_path}/a.jpg", "does not exist"):
        FileImage(f"{tmp_path}/a.jpg").open()


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with one_sentence(f"{tmp_path}/a.jpg is not a regular file"):
        FileImage(f"{tmp_path}/a.jpg").open()


@pytest.mark.parametrize(
    ("format_", "num_pages", "is_said"),
    [
        *[("TIFF", 3, True), ("GIF", 2, True), ("PNG", 2, True), ("WEBP", 2, True)],
        *[("TIFF", 1, False), ("GIF", 1, False), ("MPO", 2, False), ("JPEG", 1, False)],
    ],
)
def test_of_several_pages_the_first_counts_which_is_said_once(
    format_: str,
    num_pages: int,
    is_said: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(decoding, "_said", [])
    first, *others = (Image.new("RGB", (20, 10), (250 - 90 * n, 0, 0)) for n in range(num_pages))
    more: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
    content = encode(first, format_, **more)
    with caplog.at_level("WARNING"):
        for name in ("scan", "other"):
            red = decode_image(content, name).convert("RGB").getpixel((0, 0))
            assert abs(red[0] - 250) < 5
    assert [record.getMessage() for record in caplog.records] == is_said * [
        "scan has several pages or frames: of it and any other such file the first is used."
    ]


def test_a_decompression_bomb_is_refused_with_the_limit() -> None:
    with one_sentence("bomb has more than 178,956,970 pixels"):
        decode_image(encode(Image.new("1", (20_000, 10_000))), "bomb")


def test_the_stated_limit_is_pillows_own() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert decoding.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def test_damage_behind_the_first_frame_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_said", [])
    red, black = (Image.new("RGB", (20, 10), (n, 0, 0)) for n in (250, 70))
    one = len(encode(red, "GIF"))
    content = encode(red, "GIF", save_all=True, append_images=[black])
    assert len(content) > one + 30
    for length in range(one, len(content)):
        assert decode_image(content[:length], "cut").convert("RGB").getpixel((0, 0)) == (250, 0, 0)


def test_a_large_scan_passes_without_a_warning() -> None:
    # 90 megapixels: Pillow warns from 89.5 on
    code = """
import io, tasks.images
from PIL import Image
file = io.BytesIO()
Image.new("1", (10_000, 9_000)).save(file, "PNG")
image = tasks.images.BytesImage(file.getvalue(), "large")
print(image.dimensions(), image.open().size)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.stdout == "(10000, 9000) (10000, 9000)\n", done.stderr


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
@pytest.mark.filterwarnings("ignore")
def test_500_mutations_either_decode_or_are_reported(format_: str) -> None:
    whole = encode(Image.effect_noise((24, 16), 60).convert("RGB"), format_)
    chance = random.Random(0)
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            content[chance.randrange(min(len(content), 400))] = chance.randrange(256)
        try:
            assert decode_image(bytes(content[: chance.randint(1, len(whole))]), "p").mode in (
                "RGB",
                "L",
            )
        except ValueError as error:
            assert str(error).startswith("p ")


def test_an_array_is_scaled_to_the_size_asked() -> None:
    image = ArrayImage(np.zeros((8, 8), np.uint8), name="digit", size=(64, 48)).open()
    assert (image.mode, image.size) == ("RGB", (64, 48))


def test_missing_images_are_found_without_decoding(
    tmp_path: Path, load: Load, opened: list[str]
) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path))
    absent = tmp_path / "train2014/COCO_train2014_000000000102.jpg"
    absent.unlink()
    assert missing_images(dataset) == [str(absent)]
    assert opened == []


def test_images_of_the_current_folder_are_not_missing(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 4)).save("a.png")
    Path("test.csv").write_text("image,query,response\na.png,?,x\n")
    assert missing_images(load("csv_qa", "test", Path())) == []


def test_the_check_before_training_names_five_missing_images_and_the_count(
    tmp_path: Path, load: Load
) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path, num_train=7))
    for path in (tmp_path / "train2014").iterdir():
        path.unlink()
    with one_sentence("7 image(s) that do not exist", "000000000104.jpg, …"):
        check_dataset(dataset)


def test_the_check_before_training_passes_a_whole_split(tmp_path: Path, load: Load) -> None:
    check_dataset(load("vqav2", "train", write_vqav2(tmp_path)))


def test_the_check_before_training_refuses_an_empty_split(tmp_path: Path, load: Load) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path))
    with one_sentence("vqav2 split 'train' is empty"):
        check_dataset(Dataset(dataset.task, "train", []))


def test_the_check_before_training_refuses_an_id_that_comes_twice(
    tmp_path: Path, load: Load
) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path))
    with one_sentence("1 id(s) more than once: 100000;"):
        check_dataset(Dataset(dataset.task, "train", [*dataset.rows, dataset.rows[0]]))


def test_an_image_folder_without_permission_is_named(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path))

    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(images.os, "scandir", refuse)
    with one_sentence(f"{tmp_path}/train2014 cannot be read: Permission denied"):
        check_dataset(dataset)


def test_loading_and_subsetting_open_no_image_and_reading_opens_only_the_subset(
    tmp_path: Path, opened: list[str], load: Load
) -> None:
    dataset = load("vqav2", "train", write_vqav2(tmp_path, num_train=9)).subset(2, seed=0)
    assert opened == []
    for example in dataset:
        example.image.open()
    assert len(opened) == len(set(opened)) == 2


def test_images_survive_pickling_for_data_loading_workers(tmp_path: Path, load: Load) -> None:
    import pickle

    dataset = pickle.loads(pickle.dumps(load("vqav2", "train", write_vqav2(tmp_path))))
    assert dataset[0].image.open().size == (24, 16)
