"""Choices of the user that say how a table is read."""

from dataclasses import dataclass
from typing import Literal

Answers = Literal["required", "optional", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReading:
    """The way to read a table.

    Attributes:
        encoding: of its text, a name that Python knows; None for UTF-8 or what a byte order mark
            says.
        lenient: join what unquoted commas cut in the last column of a CSV table.
        question: what is asked about every image of a table that has no column for it.
        answers: whether each row needs one, may be without, or is read without.
    """

    encoding: str | None = None
    lenient: bool = False
    question: str | None = None
    answers: Answers = "required"
