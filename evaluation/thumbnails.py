"""Small images for a page, under a budget of bytes."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from evaluation.image_sheet import num_columns, open_sheet
from tasks.base import Example, ImageRef

SIDE = 320  # pixels of the longer side; of a grid, of each image in it
_LOSSLESS_SIDE = 96  # such small ones would show the blocks of a JPEG


def make_thumbnails(examples: Sequence[Example], num_bytes: int) -> dict[int | str, str]:
    """Return data URIs by the examples' ids, in their order, until they take so many bytes.

    Args:
        examples: their images are opened, each once; one that cannot be is left out.
        num_bytes: the most that all of them take.
    """
    made: dict[tuple[ImageRef, ...], str | None] = {}
    left = num_bytes
    found: dict[int | str, str] = {}
    for example in examples if num_bytes else ():
        images = example.images
        if images not in made:
            made[images] = _data_uri(images)
            left -= len(made[images] or "")
            if left < 0:
                break
        if uri := made[images]:
            found[example.example_id] = uri
    return found


def _data_uri(images: Sequence[ImageRef]) -> str | None:
    try:
        shown = open_sheet(images)
    except (OSError, ValueError):
        return None
    side = SIDE * num_columns(len(images))
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind = "PNG" if max(shown.size) <= _LOSSLESS_SIDE else "JPEG"
    file = io.BytesIO()
    shown.save(file, kind, **({"quality": 80} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
