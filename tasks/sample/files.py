"""Write files that have the same bytes on every machine."""

import json
import zlib
from pathlib import Path
from typing import Any

from PIL import Image


def write_json(path: Path, content: Any) -> None:
    """Write compact JSON; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="ascii", newline="\n")


def write_jpeg(path: Path, image: Image.Image) -> None:
    """Write a photograph's format; the folder must be there."""
    image.save(path, "JPEG", quality=95)


def write_png(path: Path, image: Image.Image) -> None:
    """Write a scan's format; the folder must be there."""
    # run lengths only: general matches are searched differently from one zlib to the next
    image.save(path, "PNG", compress_type=zlib.Z_RLE)
