"""The images of an example as one: a single one as it is, several in a grid in their order."""

from collections.abc import Sequence
from math import ceil, sqrt

from PIL import Image

from tasks.base import ImageRef

_GAP = 8  # pixels between the images of a grid
_MOST_SIDE = 1024  # pixels of the largest image in it


def num_columns(number: int) -> int:
    """Return how many of so many images stand side by side."""
    return ceil(sqrt(number))


def open_sheet(images: Sequence[ImageRef]) -> Image.Image:
    """Open images and draw them as one.

    Raises:
        OSError, ValueError: one cannot be opened.
    """
    return draw_sheet([image.open() for image in images])


def draw_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """Draw images row by row on white, all at one scale in equal cells; one stays itself."""
    if len(images) == 1:
        return images[0]
    columns = num_columns(len(images))
    scale = min(1.0, _MOST_SIDE / max(max(image.size) for image in images))
    sizes = [(round(i.width * scale) or 1, round(i.height * scale) or 1) for i in images]
    width, height = (max(sides) + _GAP for sides in zip(*sizes, strict=True))
    rows = ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * width - _GAP, rows * height - _GAP), "white")
    for place, (image, size) in enumerate(zip(images, sizes, strict=True)):
        row, column = divmod(place, columns)
        shown = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(shown, (column * width, row * height))
    return sheet
