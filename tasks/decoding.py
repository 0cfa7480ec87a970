"""The content of an image file -> the image, as a person would see it."""

import io
import logging
import warnings
from contextlib import suppress
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

logger = logging.getLogger(__name__)

# Pillow's own hard limit (it warns from the half of it on): the largest scans of DocVQA pass,
# 600 MB of RGB is the most that one image can take.
MAX_PIXELS = 178_956_970
# once and for all: threads share the filters, so none can set one of its own for a while
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_said: list[str] = []  # the file of several pages that was named


def read_dimensions(file: BinaryIO, name: str) -> tuple[int, int]:
    """Return width and height of an image file, from its header.

    Raises:
        ValueError: it has none that is known; begins with `name`.
    """
    try:
        return Image.open(file).size
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise _unknown(name) from error


def decode_image(content: bytes, name: str) -> Image.Image:
    """Decode an image file as a person would see it on white paper: upright, 8 bits a channel.

    Of several pages or frames the first counts, which is said once.

    Returns:
        RGB; of a file that is grey throughout its own kind L, a third of the bytes.

    Raises:
        ValueError: not an image, truncated or too large; begins with `name`.
    """
    try:
        image = Image.open(io.BytesIO(content))
        _say_more_pages(image, name)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # without a copy where it is upright
        return _on_white(image)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise _unknown(name) from error
    except Exception as error:  # on damaged files Pillow lets many types through
        raise ValueError(
            f"{name} is truncated or damaged ({error}); replace it, or remove what asks about it."
        ) from error


def _say_more_pages(image: Image.Image, name: str) -> None:
    if _said or image.format == "MPO":  # a photograph and its preview
        return
    with suppress(Exception):  # damage behind the first page
        if getattr(image, "is_animated", False):
            _said.append(name)
            logger.warning(
                "%s has several pages or frames: of it and any other such file the first is used.",
                name,
            )


def _too_large(name: str) -> ValueError:
    return ValueError(
        f"{name} has more than {MAX_PIXELS:,} pixels, the most accepted; scale it down."
    )


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"{name} is not an image in a known format; convert it, or remove what asks about it."
    )


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scale_grey(image)
    if image.has_transparency_data:  # an alpha channel, or one transparent colour
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _scale_grey(image: Image.Image) -> Image.Image:
    """Scale grey of more than 8 bits to 8; `convert` would clip all of it to white."""
    import numpy as np

    pixels = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
    highest = max(float(pixels.max()), 0.0)
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:  # the range is not written in the file: take the smallest usual one that holds it
        usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((limit for limit in usual if highest <= limit), highest)
    return Image.fromarray((pixels.clip(0) * (255 / top)).round().astype(np.uint8))
