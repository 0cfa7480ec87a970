"""Examples that cannot be used, each with the reason."""

from collections.abc import Sequence
from typing import Any

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """An example that cannot be used.

    Attributes:
        id: its id; `record N` or `line N`, counted from 1, where that cannot be read.
        file: the image, or the file with its record.
        reason: a sentence.
    """

    id: int | str
    file: str
    reason: str


def summary(faults: Sequence[Fault]) -> dict[str, Any]:
    """Return what a record of a run says of examples that were left out."""
    return {"count": len(faults), "ids": [fault.id for fault in faults]}
