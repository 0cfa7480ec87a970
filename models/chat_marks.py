"""Marks that stand for the texts of a conversation while a chat template lays it out."""

import re
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from models.encoding import Illustrated, Message

MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, which no template touches


class Piece(NamedTuple):
    """A part of a rendered conversation."""

    text: str
    is_layout: bool  # the template's, in which special tokens are special


def mark_of(index: int) -> str:
    """Return the mark of the text of a turn."""
    return f"\ue000{index}\ue001"


class Shape(NamedTuple):
    """A turn without its words: whose it is, and in which order its texts and images stand."""

    role: str
    order: str  # "t" for a text, "i" for an image

    @property
    def num_texts(self) -> int:
        """Return the number of its texts."""
        return self.order.count("t")


def shapes_of(messages: Sequence[Message]) -> tuple[tuple[Shape, ...], list[str]]:
    """Return the shape of each turn of a conversation, and all texts in their order.

    Where no text says where images stand, there is one, before the user's first.
    """
    shapes: list[Shape] = []
    texts: list[str] = []
    has_places = any(isinstance(text, Illustrated) for _, text in messages)
    for role, text in messages:
        if isinstance(text, Illustrated):
            parts = text.parts
            order = "i".join("t" if part else "" for part in parts)
            shapes.append(Shape(role, order if "t" in order else f"{order}t"))
            texts += [part for part in parts if part] or [""]
            continue
        is_first = role == "user" and all(shape.role != "user" for shape in shapes)
        shapes.append(Shape(role, "it" if is_first and not has_places else "t"))
        texts.append(text)
    return tuple(shapes), texts


def marked_turns(
    shapes: Sequence[Shape], image_token: str | None, blank: str
) -> list[dict[str, Any]]:
    """Return the turns of a conversation, as templates take them, with marks for texts.

    Args:
        shapes: of the turns.
        image_token: stands for an image among texts; None for contents that are lists of parts.
        blank: white space around each mark.
    """
    marks = (blank + mark_of(index) + blank for index in count())
    turns: list[dict[str, Any]] = []
    for role, order in shapes:
        parts = [
            {"type": "image"} if kind == "i" else {"type": "text", "text": next(marks)}
            for kind in order
        ]
        if image_token is None:
            turns.append({"role": role, "content": parts})
            continue
        in_front = len(order) - len(order.lstrip("i"))
        written = [part.get("text", image_token) for part in parts]
        content = "".join(f"{image}\n" for image in written[:in_front])
        turns.append({"role": role, "content": content + "".join(written[in_front:])})
    return turns


def pieces_of(text: str, texts: Sequence[str]) -> list[Piece]:
    """Return rendered text in pieces, each mark replaced by the text it stands for."""
    pieces = [
        Piece(texts[int(part)], False) if index % 2 else Piece(part, True)
        for index, part in enumerate(MARK.split(text))
    ]
    return [piece for piece in pieces if piece.text]


def parted(piece: Piece, token: str) -> list[Piece]:
    """Return a text in parts without a token, which would be obeyed; layout stays as it is."""
    if piece.is_layout:
        return [piece]
    first, rest = re.escape(token[0]), re.escape(token[1:])
    return [Piece(text, False) for text in re.split(f"(?<={first})(?={rest})", piece.text)]
