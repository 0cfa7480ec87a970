"""Pages: one to four printed rows, fields of a form (two letters, two digits) or free text."""

import string
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

from synthetic.scenes import IMAGE_SIZE, random_background

FIELDS = ("ID", "TX", "DT", "QT", "FE", "NO", "KG", "RM")
# O and I are left out of free text: in this font they cannot be told from 0 and 1
CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ" + string.digits
NUM_ROWS = 4
NUM_COLUMNS = 4
_CELL = IMAGE_SIZE // NUM_ROWS


@dataclass(frozen=True, slots=True)
class Page:
    """The text of a page: its rows from the top; `fields` where the rows are a form's."""

    rows: tuple[str, ...]
    fields: dict[str, str]


def random_form(rng: Random) -> Page:
    """Draw a form: two to four different fields, two digits each."""
    keys = rng.sample(FIELDS, rng.randint(2, NUM_ROWS))
    fields = {key: f"{rng.randint(0, 99):02d}" for key in keys}
    return Page(tuple(key + value for key, value in fields.items()), fields)


def random_text(rng: Random) -> Page:
    """Free text: one to four rows of one to four characters."""
    rows = [
        "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(1, NUM_COLUMNS)))
        for _ in range(rng.randint(1, NUM_ROWS))
    ]
    return Page(tuple(rows), {})


def render_page(page: Page, rng: Random) -> Image.Image:
    """Print a page as an RGB image, 64 x 64 px; shade, size and places vary a little."""
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), random_background(rng))
    draw = ImageDraw.Draw(image)
    size = rng.choice((15, 16, 17))
    ink = (rng.randint(0, 90), rng.randint(0, 90), rng.randint(0, 90))
    for row, text in enumerate(page.rows):
        for column, character in enumerate(text):
            left, width = _extent(character, size)
            x = column * _CELL + (_CELL - width) / 2 - left + rng.randint(-1, 1)
            y = row * _CELL - 3 + rng.randint(-1, 1)
            draw.text((x, y), character, fill=ink, font=_font(size))
    return image


def render_character(character: str, rng: Random) -> Image.Image:
    """Print one large character, turned and moved a little, as an RGB image, 64 x 64 px."""
    image = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), 255)
    size = rng.randint(50, 68)
    left, top, right, bottom = _font(size).getbbox(character)
    x = (IMAGE_SIZE - right - left) / 2 + rng.randint(-4, 4)
    y = (IMAGE_SIZE - bottom - top) / 2 + rng.randint(-4, 4)
    ImageDraw.Draw(image).text((x, y), character, fill=rng.randint(0, 60), font=_font(size))
    turned = image.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR, fillcolor=255)
    coarse = rng.choice((8, 12, 16, 32))  # as if scanned with few pixels
    return (
        turned.resize((coarse, coarse), Image.Resampling.BOX)
        .resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
        .convert("RGB")
    )


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # the font inside Pillow: the same on every machine
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@cache
def _extent(character: str, size: int) -> tuple[float, float]:
    left, _, right, _ = _font(size).getbbox(character)
    return left, right - left
