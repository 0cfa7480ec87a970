"""Answers as images: what was shown, asked, predicted (blue) and expected (green), in any script.

No font is shipped: each character is drawn in the first font of this machine that has it.
"""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from common.files import check_writable
from evaluation.image_sheet import open_sheet
from tasks.report import Report

FOLDER = "visualizations"
WIDTH = 1024
_MAX_HEIGHT = 768
_MARGIN = 24
_FONT_SIZE = 22
_LINE_HEIGHT = 32
_BLACK, _BLUE, _GREEN = (0, 0, 0), (0, 70, 190), (0, 120, 40)
_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
_TIMES = "\N{MULTIPLICATION SIGN}"
_NO_CHARACTER = "\U0010ffff"  # a noncharacter: drawn as the box for what a font lacks

logger = logging.getLogger(__name__)


def write_gallery(report: Report, folder: Path, num_samples: int) -> None:
    """Write `visualizations/sample_000.png` and on of the first examples of a report.

    Args:
        report: its examples' images are opened.
        folder: where the report lies.
        num_samples: how many; 0 for none.
    """
    place = folder / FOLDER
    for old in place.glob("sample_*.png"):  # of an earlier scoring
        old.unlink()
    if not num_samples:
        return
    check_writable(folder)
    place.mkdir(parents=True, exist_ok=True)
    examples = report.examples[:num_samples]
    texts = [
        text
        for example, prediction in zip(examples, report.predictions, strict=False)
        for text in (example.turns[-1].text, prediction, *example.references)
    ]
    if missing := sorted(filter(_lacks, set(_composed("".join(texts))))):
        logger.warning(
            "No font of this machine has %s: boxes stand for them; install one, for example the "
            "package fonts-noto-cjk for Chinese, Japanese and Korean.",
            " ".join(missing[:20]),
        )
    for index, example in enumerate(examples):
        image = draw_sample(
            open_sheet(example.images),
            example.turns[-1].text,
            report.predictions[index],
            example.references,
        )
        image.save(place / f"sample_{index:03}.png")


def draw_sample(
    image: Image.Image, instruction: str, prediction: str, references: Sequence[str]
) -> Image.Image:
    """Draw one example, 1024 pixels wide: the image with its proportions, the texts below it."""
    scale = min((WIDTH - 2 * _MARGIN) / image.width, _MAX_HEIGHT / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    paragraphs = [
        (_BLACK, instruction),
        (_BLUE, f"Prediction: {prediction}"),
        *((_GREEN, f"Reference: {text}") for text in counted(references)),
    ]
    lines = [
        (color, line) for color, text in paragraphs for line in wrap(text, WIDTH - 2 * _MARGIN)
    ]
    height = size[1] + 3 * _MARGIN + _LINE_HEIGHT * len(lines)
    sheet = Image.new("RGB", (WIDTH, height), "white")
    sheet.paste(image.resize(size, Image.Resampling.LANCZOS), ((WIDTH - size[0]) // 2, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    baseline = size[1] + 2 * _MARGIN + _FONT_SIZE
    for number, (color, line) in enumerate(lines):
        left = float(_MARGIN)
        for font, text in _runs(line):
            # on the baseline, as fonts differ in height
            draw.text((left, baseline + number * _LINE_HEIGHT), text, color, font, anchor="ls")
            left += font.getlength(text)
    return sheet


def counted(texts: Sequence[str]) -> list[str]:
    """Return each text once, the most frequent first, and behind it how often it is there."""
    counts = Counter(texts).most_common()
    return [f"{text} {_TIMES}{n}" if n > 1 else text for text, n in counts]


def wrap(text: str, width: float) -> list[str]:
    """Cut a text into lines of at most `width` pixels: at spaces, a longer word anywhere."""
    lines = []
    for paragraph in _composed(text).splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            whole = f"{line} {word}" if line else word
            if _length(whole) <= width:
                line = whole
                continue
            if line:
                lines.append(line)
            *full, line = _pieces(word, width)
            lines += full
        lines.append(line)
    return lines


def _composed(text: str) -> str:
    """A text with as few characters as write it: Korean syllables, not the letters in them."""
    return unicodedata.normalize("NFC", text)


def _pieces(word: str, width: float) -> list[str]:
    """Cut a word into as few pieces as fit."""
    pieces = [""]
    for character in word:
        if pieces[-1] and _length(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _length(line: str) -> float:
    return float(sum(font.getlength(text) for font, text in _runs(line)))


def _runs(line: str) -> Iterator[tuple[Any, str]]:
    """A line in parts of one font each."""
    for font, characters in groupby(line, key=_font):
        yield font, "".join(characters)


@cache
def _font(character: str) -> Any:
    """The first font that has a character, the plain one where none has."""
    plain = ImageFont.load_default(_FONT_SIZE)
    if character.isspace() or _has(plain, character):
        return plain
    return next((font for font in _fonts() if _has(font, character)), plain)


def _lacks(character: str) -> bool:
    """Return True where a character can only be drawn as a box."""
    return not character.isspace() and not _has(_font(character), character)


def _has(font: Any, character: str) -> bool:
    # `getmask` is the drawn glyph: a font draws one and the same box for all that it lacks
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER))


def _fonts() -> Iterator[Any]:
    for path in _font_files():
        try:
            yield _load(path)
        except OSError:
            continue  # a bitmap font, or one of a kind that Pillow cannot read


@cache
def _load(path: str) -> Any:
    return ImageFont.truetype(path, _FONT_SIZE)


@cache
def _font_files() -> tuple[str, ...]:
    """Every font file of this machine; plain upright ones, as their names tell, first."""
    folders = [os.path.expanduser(folder) for folder in _FONT_FOLDERS]
    files = [
        os.path.join(place, name)
        for folder in folders
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc"))
    ]

    def rank(path: str) -> tuple[bool, bool, str]:
        name = os.path.basename(path).lower()
        styled = any(word in name for word in ("bold", "italic", "oblique", "light", "mono"))
        return styled, "sans" not in name and "gothic" not in name, path

    return tuple(sorted(files, key=rank))
