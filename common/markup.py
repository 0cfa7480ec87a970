"""Texts of other people put into Markdown, YAML and tables: they stay texts."""

import html
import json
import re
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_MARKS = re.compile(r"[\\`*_{}\[\]()#+!|~$]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: object) -> str:
    """Return a text as one line of Markdown that shows it: no mark, tag or table edge in it works.

    Inside a word an underscore is no mark, and stays.
    """
    line = html.escape(" ".join(str(text).split()), quote=False)
    escaped = _MARKS.sub(lambda mark: f"\\{mark[0]}", line)
    return re.sub(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])", "_", escaped)


def yaml_text(text: str) -> str:
    """Return a text as a YAML scalar on one line, in quotes where it is more than a plain name."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


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
