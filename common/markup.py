"""Texts of other people put into Markdown and tables: they stay texts."""

import html
import re
from typing import Any

_MARKS = re.compile(r"[\\`*_{}\[\]()#+!|~$]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: object) -> str:
    """Return a text as one line of Markdown that shows it: no mark, tag or table edge in it works.

    Inside a word an underscore is no mark, and stays.
    """
    line = html.escape(" ".join(str(text).split()), quote=False)
    escaped = _MARKS.sub(lambda mark: f"\\{mark[0]}", line)
    return re.sub(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])", "_", escaped)


def cell(value: Any) -> Any:
    """Return the cell of a table that a spreadsheet does not run: an apostrophe before a formula.

    A number is none.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
