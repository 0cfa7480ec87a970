"""Marks that stand for the texts of a conversation while a chat template lays it out."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from models.encoding import Message

MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, which no template touches


class Piece(NamedTuple):
    """A part of a rendered conversation."""

    text: str
    is_layout: bool  # the template's, in which special tokens are special


def mark_of(index: int) -> str:
    """Return the mark of the text of a turn."""
    return f"\ue000{index}\ue001"


def pieces_of(text: str, messages: Sequence[Message]) -> list[Piece]:
    """Return rendered text in pieces, each mark replaced by the text it stands for."""
    pieces = [
        Piece(messages[int(part)][1], False) if index % 2 else Piece(part, True)
        for index, part in enumerate(MARK.split(text))
    ]
    return [piece for piece in pieces if piece.text]
