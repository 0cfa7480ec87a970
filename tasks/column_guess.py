"""Columns that no name tells: what stands in them."""

from collections.abc import Collection, Mapping, Sequence
from itertools import filterfalse
from pathlib import PurePath
from typing import Any

from tasks.cells import is_empty

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")  # of Latin, Chinese and Arabic script


def guess_columns(cells: Mapping[str, Sequence[Any]], wanted: Collection[str]) -> dict[str, str]:
    """Guess which columns hold the images, the questions, and so the answers.

    Args:
        cells: columns that are still free -> their first cells.
        wanted: our names of those that are looked for: image, instruction, response.

    Returns:
        Our name -> column, of those that can be guessed: in one column alone every cell names an
        image, or asks a question; the only column that is left then holds the responses. Empty
        cells tell nothing.
    """
    guessed: dict[str, str] = {}
    told = {name: [*filterfalse(is_empty, found)] for name, found in cells.items()}
    left = {name: found for name, found in told.items() if found}
    for ours, is_one in (("image", is_image_name), ("instruction", _is_question)):
        fitting = [name for name, found in left.items() if all(map(is_one, found))]
        if ours in wanted and len(fitting) == 1:
            guessed[ours] = fitting[0]
        left = {name: found for name, found in left.items() if name not in fitting}
    is_asked = "instruction" not in wanted or "instruction" in guessed
    if "response" in wanted and is_asked and len(left) == 1:
        (guessed["response"],) = left
    return guessed


def is_image_name(cell: Any) -> bool:
    """Return True for a text that ends as the name of an image's file."""
    return isinstance(cell, str) and PurePath(cell.lower()).suffix in IMAGE_SUFFIXES


def _is_question(cell: Any) -> bool:
    return isinstance(cell, str) and cell.rstrip().endswith(_QUESTION_MARKS)
