"""Columns that no name tells: what stands in them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")  # of Latin, Chinese and Arabic script


def guess_columns(cells: Mapping[str, Sequence[Any]], wanted: Collection[str]) -> dict[str, str]:
    """Guess which columns hold the images, the questions, and so the answers.

    Args:
        cells: columns that are still free -> their first cells.
        wanted: our names of those that are looked for: image, instruction, response.

    Returns:
        Our name -> column, of those that can be guessed: every cell names an image or asks a
        question; the only column that is left then holds the responses.
    """
    guessed: dict[str, str] = {}
    left = [name for name, found in cells.items() if found]
    for ours, is_one in (("image", _is_image_name), ("instruction", _is_question)):
        fitting = [name for name in left if all(map(is_one, cells[name]))]
        if ours in wanted and fitting:
            guessed[ours] = fitting[0]
            left.remove(fitting[0])
    is_asked = "instruction" not in wanted or "instruction" in guessed
    if "response" in wanted and is_asked and len(left) == 1:
        guessed["response"] = left[0]
    return guessed


def _is_image_name(cell: Any) -> bool:
    return isinstance(cell, str) and PurePath(cell.lower()).suffix in IMAGE_SUFFIXES


def _is_question(cell: Any) -> bool:
    return isinstance(cell, str) and cell.rstrip().endswith(_QUESTION_MARKS)
