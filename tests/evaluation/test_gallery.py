"""Images of answers: colours, wrapping, proportions, and any script that a font here has."""

import logging
import struct
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from evaluation import gallery
from tasks.base import Dataset, Example, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tasks.report import Report

TEXT_TOP = 24  # the margin above the image


def make_font(path: Path, characters: str) -> Path:
    """A TrueType font whose every character is one solid square, and that has no others.

    Tables as in https://learn.microsoft.com/typography/opentype/spec/otff; glyph 0, for what it
    lacks, is a narrower bar.
    """

    def glyph(width: int) -> bytes:
        contour = struct.pack(">hhhhhHH", 1, 0, 0, width, 800, 3, 0) + bytes([1] * 4)
        xs, ys = (0, 0, width, 0), (0, 800, 0, -800)
        return contour + struct.pack(">8h", *xs, *ys)

    bar, square = glyph(100), glyph(800)
    assert len(bar) % 2 == 0 and len(bar) == len(square)
    points = sorted(map(ord, characters))
    groups = b"".join(struct.pack(">III", point, point, 1) for point in points)
    cmap = struct.pack(">HHHHI", 0, 1, 3, 10, 12)
    cmap += struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(points)) + groups
    tables = {
        b"cmap": cmap,
        b"glyf": bar + square,
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh",
            *(0x10000, 0, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 1000, 1000, 0, 8, 2, 1, 0),
        ),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", 0x10000, 900, -100, *[0] * 13, 2),
        b"hmtx": struct.pack(">HhHh", 900, 0, 900, 0),
        b"loca": struct.pack(">III", 0, len(bar), len(bar) + len(square)),
        b"maxp": struct.pack(">IH13H", 0x10000, 2, 4, 1, *[0] * 11),
    }
    content, directory = b"", b""
    for tag, table in tables.items():
        start = 12 + 16 * len(tables) + len(content)
        directory += tag + struct.pack(">III", 0, start, len(table))
        content += table + bytes(-len(table) % 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">IHHHH", 0x10000, len(tables), 0, 0, 0) + directory + content)
    return path


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one folder in which fonts are looked for; nothing found before is remembered."""
    caches = (gallery._font, gallery._font_files, gallery._load)
    monkeypatch.setattr(gallery, "_FONT_FOLDERS", (str(tmp_path / "fonts"),))
    for cached in caches:
        cached.cache_clear()
    yield tmp_path / "fonts"
    for cached in caches:
        cached.cache_clear()


def draw(prediction: str, references: tuple[str, ...] = (), instruction: str = "") -> Image.Image:
    return gallery.draw_sample(
        Image.new("RGB", (20, 10), "red"), instruction, prediction, references
    )


def colors(sheet: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(sheet).reshape(-1, 3).tolist()))


def rows_with(sheet: Image.Image, color: tuple[int, int, int]) -> list[int]:
    hits = (np.asarray(sheet) == np.array(color)).all(axis=2).any(axis=1)
    return np.flatnonzero(hits).tolist()


def test_the_prediction_is_blue_and_each_reference_green_below_it() -> None:
    sheet = draw("one", ("two", "three"), instruction="what?")
    blue, green = rows_with(sheet, gallery._BLUE), rows_with(sheet, gallery._GREEN)
    black = rows_with(sheet, gallery._BLACK)
    assert black and blue and green
    assert max(black) < min(blue) and max(blue) < min(green)
    without = draw("one", instruction="what?")
    assert gallery._GREEN not in colors(without)
    # two references are two lines, and one that is there thrice is one
    assert sheet.height - without.height == 2 * gallery._LINE_HEIGHT
    assert draw("one", ("two", "three", "two", "two"), instruction="what?").size == sheet.size


def test_an_image_twice_as_wide_as_high_stays_so() -> None:
    red = (np.asarray(draw("x")) == np.array((255, 0, 0))).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert len(columns) == gallery.WIDTH - 2 * TEXT_TOP
    assert len(columns) == 2 * len(rows)
    assert rows[0] == TEXT_TOP


def test_a_tall_image_does_not_push_the_texts_away() -> None:
    tall = gallery.draw_sample(Image.new("RGB", (10, 1000), "red"), "", "x", ())
    assert tall.height < 1000


def test_long_texts_are_wrapped_at_spaces_without_losing_a_word() -> None:
    words = [f"word{number}" for number in range(60)]
    lines = gallery.wrap(" ".join(words), 300)
    assert len(lines) > 5
    assert " ".join(lines).split() == words
    font = ImageFont.load_default(gallery._FONT_SIZE)
    assert max(font.getlength(line) for line in lines) <= 300
    # each line is full: the next word would not have fitted
    for line, following in pairwise(lines):
        assert font.getlength(f"{line} {following.split()[0]}") > 300


def test_a_word_that_is_too_long_is_cut_and_line_breaks_stay() -> None:
    lines = gallery.wrap("a\n" + "w" * 100, 200)
    assert lines[0] == "a"
    assert len(lines) > 3 and "".join(lines[1:]) == "w" * 100
    assert gallery.wrap("", 200) == [""]


def test_korean_is_drawn_in_the_font_that_has_it(fonts: Path) -> None:
    make_font(fonts / "deep" / "NoKorean.ttf", "漢")
    make_font(fonts / "deep" / "Korean.ttf", "한국어")
    (fonts / "broken.ttf").write_bytes(b"no font")
    assert not any(gallery._lacks(character) for character in "a한국어漢 ")
    assert gallery._lacks("식")
    blue = (np.asarray(draw("한국어")) == np.array(gallery._BLUE)).all(axis=2)
    # each syllable is a square of 0.8 x 22 pixels, 17 of them wholly blue
    assert (blue.sum(axis=1) >= 3 * 17).sum() >= 16
    assert len(gallery.wrap("한국어" * 50, 500)) > 4
    # the same in single letters, as file names of a Mac are written
    letters = unicodedata.normalize("NFD", "한국어")
    assert len(letters) == 8  # ㅎ ㅏ ㄴ, ㄱ ㅜ ㄱ, ㅇ ㅓ
    assert draw(letters).tobytes() == draw("한국어").tobytes()


def test_plain_letters_need_no_font_of_the_machine(fonts: Path) -> None:
    assert not fonts.exists()
    assert not any(gallery._lacks(character) for character in "Plain text, 12 %?")


def report(predictions: list[str]) -> Report:
    task = get_task("digits")
    pixels = np.zeros((8, 8), dtype="uint8")
    examples = [
        Example(
            example_id=number,
            image=ArrayImage(pixels, name=str(number)),
            turns=(Turn("user", "which digit?"),),
            references=("1",),
        )
        for number in range(len(predictions))
    ]
    return Report(
        task=task,
        split="val",
        examples=Dataset(task, "val", examples).rows,
        prompts=(),
        raw_predictions=predictions,
        predictions=predictions,
    )


def test_the_first_answers_are_written_under_numbered_names(tmp_path: Path) -> None:
    gallery.write_gallery(report(["a", "b", "c"]), tmp_path, 2)
    folder = tmp_path / "visualizations"
    assert sorted(path.name for path in folder.iterdir()) == ["sample_000.png", "sample_001.png"]
    with Image.open(folder / "sample_000.png") as drawn:
        assert gallery._BLUE in colors(drawn.convert("RGB"))
    gallery.write_gallery(report(["a"]), tmp_path, 5)  # an earlier gallery does not stay
    assert [path.name for path in folder.iterdir()] == ["sample_000.png"]
    gallery.write_gallery(report(["a"]), tmp_path, 0)
    assert not list(folder.iterdir())


def test_without_samples_nothing_is_written(tmp_path: Path) -> None:
    gallery.write_gallery(report(["a"]), tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_characters_without_a_font_are_named_once(
    fonts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "evaluation.gallery")
    gallery.write_gallery(report(["식당 a", "당"]), tmp_path, 2)
    assert len(caplog.records) == 1
    assert "당 식:" in caplog.text and "fonts-noto-cjk" in caplog.text
    caplog.clear()
    make_font(fonts / "Korean.ttf", "식당")
    for cached in (gallery._font, gallery._font_files):
        cached.cache_clear()
    gallery.write_gallery(report(["식당"]), tmp_path, 1)
    assert not caplog.records
