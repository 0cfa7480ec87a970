"""Images as records hold them: a path or URL to look for, or the content of a file itself."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from tasks.base import ImageRef
from tasks.cells import is_empty, text_cell
from tasks.images import BytesImage, DatasetImage

_DATA_URL = re.compile(r"data:([^,]*),(.*)", re.DOTALL | re.IGNORECASE)
# how JPEG, PNG, GIF and WebP begin in base64
_BASE64_STARTS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR")


def read_image(found: Any, where: str) -> str | ImageRef:
    """Read what a record has for an image.

    Args:
        found: a path; a URL, one of `data:` too; base64 text; bytes; an object with `url`, or with
            `bytes` and `path` as `datasets` stores images; or an image that is one already.
        where: how an error calls the record.

    Returns:
        A path or a URL, to be looked for; or the image.

    Raises:
        ValueError: it is none of these, or its base64 is damaged.
    """
    if isinstance(found, DatasetImage):
        return found
    if isinstance(found, Mapping):
        keys = [key for key in ("bytes", "url", "path") if not is_empty(found.get(key))]
        if not keys:
            raise ValueError(
                f"{where} has an object for an image, and none of bytes, url and path in it."
            )
        inner = found[keys[0]]
        if keys[0] == "bytes" and isinstance(inner, str):
            return BytesImage(_decoded(inner, where), where)
        return read_image(inner, where)
    if isinstance(found, bytes):
        return BytesImage(found, where)
    text = text_cell(found, f"{where}, its image")
    if match := _DATA_URL.fullmatch(text):
        if not match[1].lower().endswith(";base64"):
            raise ValueError(f"{where} has an image in a data: URL that is not in base64.")
        return BytesImage(_decoded(match[2], where), where)
    if text.startswith(_BASE64_STARTS) and "." not in text:
        return BytesImage(_decoded(text, where), where)
    return text


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"{where} has an image whose base64 is cut or damaged ({error}); write it anew."
        ) from error
