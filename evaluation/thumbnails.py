"""Small images for a page, under a budget of bytes."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from tasks.base import Example, ImageRef

SIDE = 320  # pixels of the longer side
_LOSSLESS_SIDE = 96  # such small ones would show the blocks of a JPEG


def make_thumbnails(examples: Sequence[Example], num_bytes: int) -> dict[int | str, str]:
    """Return data URIs by the examples' ids, in their order, until they take so many bytes.

    Args:
        examples: their images are opened, each once; one that cannot be is left out.
        num_bytes: the most that all of them take.
    """
    made: dict[ImageRef, str | None] = {}
    left = num_bytes
    found: dict[int | str, str] = {}
    for example in examples if num_bytes else ():
        image = example.image
        if image not in made:
            made[image] = _data_uri(image)
            left -= len(made[image] or "")
            if left < 0:
                break
        if uri := made[image]:
            found[example.example_id] = uri
    return found


def _data_uri(image: ImageRef) -> str | None:
    try:
        shown = image.open()
    except (OSError, ValueError):
        return None
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind = "PNG" if max(shown.size) <= _LOSSLESS_SIDE else "JPEG"
    file = io.BytesIO()
    shown.save(file, kind, **({"quality": 80} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
