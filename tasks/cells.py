"""Cells of tables that hold texts: what is read as a text, and what is refused."""

import ast
import json
import logging
import math
from typing import Any

from tasks.checks import name_some

logger = logging.getLogger(__name__)

_TEXT_KEYS = ("answer", "text")  # of an entry that is an object with one text and what is about it


def text_cell(cell: Any, where: str) -> str:
    """Return the text of a cell; numbers are written out, whole ones without a point.

    A column of whole numbers with an empty cell is stored as floats, so that 3 comes as 3.0.

    Args:
        cell: as the file holds it.
        where: how an error calls the cell.

    Raises:
        ValueError: it is empty (NaN too), or no text.
    """
    if isinstance(cell, dict):
        keys = ", ".join(map(str, cell)) or "none"
        raise ValueError(
            f"{where} is an object with the keys {keys}, and must be a text; name the key behind a "
            "point, as in NAME=COLUMN.KEY of --hub_columns, or write the text alone."
        )
    if is_empty(cell):
        raise ValueError(f"{where} is empty, and must be a text; fill in the cell.")
    if not isinstance(cell, str | int | float) or (isinstance(cell, float) and math.isinf(cell)):
        raise ValueError(
            f"{where} is {'inf' if isinstance(cell, float) else f'a {type(cell).__name__}'}, and "
            "must be a text; fill in the cell."
        )
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def text_cells(cell: Any, where: str) -> tuple[tuple[str, ...], int]:
    """Return every text of a cell that may hold several, and how many empty ones were left out.

    Several are a list, or a text that is a written list of texts (`["a", "b"]`, as our own
    predictions.csv has them, or Python's `['a', 'b']`). An entry may be an object whose text
    stands under `answer` or `text`.

    Raises:
        ValueError: as of `text_cell`, or all of them are empty.
    """
    entries = written_list(cell) if isinstance(cell, str) else cell
    if not isinstance(entries, list | tuple) or not len(entries):
        return (text_cell(cell, where),), 0
    plain = [_text_of(entry) for entry in entries]
    texts = tuple(text_cell(entry, where) for entry in plain if not is_empty(entry))
    if not texts:
        raise ValueError(f"{where} is a list of empty texts; fill in one at least.")
    return texts, len(plain) - len(texts)


def is_empty(cell: Any) -> bool:
    """Return True where a cell holds nothing: no value, blanks, or NaN, as tables store it."""
    return (
        cell is None
        or (isinstance(cell, str) and not cell.strip())
        or (isinstance(cell, float) and math.isnan(cell))
    )


def _text_of(entry: Any) -> Any:
    if isinstance(entry, dict):
        found = [key for key in _TEXT_KEYS if key in entry]
        return entry[found[0]] if len(found) == 1 else entry
    return entry


def written_list(text: str) -> Any:
    """Return the list of texts that a text writes out, or the text itself."""
    if not (text.strip().startswith("[") and text.strip().endswith("]")):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and found and all(isinstance(entry, str) for entry in found):
            return found
    return text


class RowTexts:
    """Reads the texts of rows, and counts what it leaves out.

    Args:
        needs_answers: refuse a row without a response, in place of reading none.
    """

    def __init__(self, *, needs_answers: bool = True) -> None:
        self.needs_answers = needs_answers
        self.left_out: list[str] = []

    def read(self, instruction: Any, response: Any, where: str) -> tuple[str, tuple[str, ...]]:
        """Return the instruction and every accepted response of a row."""
        question = text_cell(instruction, f"{where}, column of the instruction")
        if not self.needs_answers and is_empty(response):
            return question, ()
        responses, num_empty = text_cells(response, f"{where}, column of the response")
        if num_empty:
            self.left_out.append(where.rpartition(", ")[2])
        return question, responses

    def report(self, place: object) -> None:
        """Say how many rows had empty texts among their responses, and in which."""
        if self.left_out:
            logger.warning(
                "%s: empty texts among the responses of %d row(s) are left out: %s.",
                place,
                len(self.left_out),
                name_some(self.left_out),
            )
