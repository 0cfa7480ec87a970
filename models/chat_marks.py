"""Marks that stand for the texts of a conversation while a chat template lays it out."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.encoding import Message

MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, which no template touches


class Piece(NamedTuple):
    """A part of a rendered conversation."""

    text: str
    is_layout: bool  # the template's, in which special tokens are special


def mark_of(index: int) -> str:
    """Return the mark of the text of a turn."""
    return f"\ue000{index}\ue001"


def marked_turns(roles: Sequence[str], image_token: str | None, blank: str) -> list[dict[str, Any]]:
    """Return the turns of a conversation, as templates take them, with marks for texts.

    Args:
        roles: of the turns; the image belongs to the first user's.
        image_token: stands before that turn's text; None for contents that are lists of parts.
        blank: white space around each mark.
    """
    turns: list[dict[str, Any]] = []
    for index, role in enumerate(roles):
        text, has_image = blank + mark_of(index) + blank, index == roles.index("user")
        if image_token is None:
            part = [{"type": "image"}] if has_image else []
            turns.append({"role": role, "content": [*part, {"type": "text", "text": text}]})
        else:
            content = f"{image_token}\n{text}" if has_image else text
            turns.append({"role": role, "content": content})
    return turns


def pieces_of(text: str, messages: Sequence[Message]) -> list[Piece]:
    """Return rendered text in pieces, each mark replaced by the text it stands for."""
    pieces = [
        Piece(messages[int(part)][1], False) if index % 2 else Piece(part, True)
        for index, part in enumerate(MARK.split(text))
    ]
    return [piece for piece in pieces if piece.text]


def parted(piece: Piece, token: str) -> list[Piece]:
    """Return a text in parts without a token, which would be obeyed; layout stays as it is."""
    if piece.is_layout:
        return [piece]
    first, rest = re.escape(token[0]), re.escape(token[1:])
    return [Piece(text, False) for text in re.split(f"(?<={first})(?={rest})", piece.text)]
