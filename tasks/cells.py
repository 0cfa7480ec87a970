"""Cells of tables that hold texts: what is read as a text, and what is refused."""

import ast
import json
import logging
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from unicodedata import category

from tasks.checks import name_some

logger = logging.getLogger(__name__)

_TEXTS = (str, int, float, Decimal, date)  # a date as 2024-12-31
_UNSEEN = ("Cc", "Cf")  # controls, and marks without a width
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
    is_text = isinstance(cell, _TEXTS) and not isinstance(cell, datetime)
    if not is_text or (isinstance(cell, float) and math.isinf(cell)):
        raise ValueError(
            f"{where} is {'inf' if isinstance(cell, float) else f'a {type(cell).__name__}'}, and "
            "must be a text; write it into the table as the text that is meant."
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
    entries = written_list(cell)
    if not isinstance(entries, list | tuple):
        return (text_cell(cell, where),), 0
    plain = [_text_of(entry) for entry in entries]
    texts = tuple(text_cell(entry, where) for entry in plain if not is_empty(entry))
    if not texts:
        what = "a list of empty texts" if plain else "an empty list"
        raise ValueError(f"{where} is {what}; fill in one text at least.")
    return texts, len(plain) - len(texts)


def is_empty(cell: Any) -> bool:
    """Return True where a cell holds nothing: no value, nothing to be seen, or a table's NaN."""
    return (
        cell is None
        or (isinstance(cell, str) and all(s.isspace() or category(s) in _UNSEEN for s in cell))
        or (isinstance(cell, float) and math.isnan(cell))
    )


def _text_of(entry: Any) -> Any:
    if isinstance(entry, dict):
        found = [key for key in _TEXT_KEYS if key in entry]
        return entry[found[0]] if len(found) == 1 else entry
    return entry


def written_list(cell: Any) -> Any:
    """Return the list of texts that a text writes out, or the cell itself."""
    text = cell.strip() if isinstance(cell, str) else ""
    if not (text.startswith("[") and text.endswith("]")):
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(entry, str) for entry in found):
            return found
    return cell


class RowTexts:
    """Reads the texts of rows, and counts what it leaves out.

    Args:
        needs_answers: refuse a row without a response, in place of reading none.
    """

    def __init__(self, *, needs_answers: bool = True) -> None:
        self.needs_answers = needs_answers
        self.left_out: list[str] = []
        self.of_numbers: list[str] = []

    def read(self, instruction: Any, response: Any, where: str) -> tuple[str, tuple[str, ...]]:
        """Return the instruction and every accepted response of a row."""
        question = text_cell(instruction, f"{where}, column of the instruction")
        if not self.needs_answers and (is_empty(response) or written_list(response) in ([], ())):
            return question, ()
        responses, num_empty = text_cells(response, f"{where}, column of the response")
        if num_empty:
            self.left_out.append(where.rpartition(", ")[2])
        if len(set(responses)) > 1 and all(isinstance(entry, int | float) for entry in response):
            self.of_numbers.append(where.rpartition(", ")[2])
        return question, responses

    def report(self, place: object) -> None:
        """Say how many rows had empty texts or numbers for responses, and in which."""
        if self.left_out:
            logger.warning(
                "%s: empty texts among the responses of %d row(s) are left out: %s.",
                place,
                len(self.left_out),
                name_some(self.left_out),
            )
        if self.of_numbers:
            logger.warning(
                "%s: each number in the lists of %d row(s) is taken for an accepted response; "
                'write a list that is one response, as a box is, as a text, "[1, 2]": %s.',
                place,
                len(self.of_numbers),
                name_some(self.of_numbers),
            )
