"""The columns of tables with instructions and responses: by which names they are looked for."""

import logging
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from tasks.base import Source
from tasks.table_columns import looked_for
from tasks.table_images import SEPARATOR, further_column
from tasks.tables import header_of

logger = logging.getLogger(__name__)

_SYNONYMS = {  # one named by the user stands for the others, as tables of two splits may differ
    "image": ("image", "url", "image_path", "file_name", "images", "file_names"),
    "instruction": ("instruction", "query"),
    "response": ("response", "annotation"),
}
COLUMNS = {  # where the user names none; the first that is there counts
    "image": (
        *_SYNONYMS["image"],
        *("filename", "image_file", "img", "img_path", "photo", "picture", "file", "path"),
    ),
    "instruction": (*_SYNONYMS["instruction"], "question", "prompt", "input"),
    "response": (*_SYNONYMS["response"], "answer", "answers", "output", "label", "target"),
}
# of this task and of those that build on it: named so, a column may be missing as one not named may
_USUAL_ANSWERS = (*_SYNONYMS["response"], "answer")
_CAPTIONS = ("caption", "text")  # where the question is given, what else can a response be


def names_of_columns(source: Source, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Map each of our names to those that are looked for."""
    known = dict(COLUMNS)
    if source.reading.question is not None:
        known["response"] += _CAPTIONS
    found = {name: _candidates(name, source.columns.get(name), known) for name in names}
    first, *further = source.columns.get("image", "").split(SEPARATOR)
    if further and "image" in found:
        found["image"] = (first,)
        found |= {further_column(n): (name,) for n, name in enumerate(further, start=2)}
    return found


def optional_columns(source: Source) -> tuple[str, ...]:
    """Return which of our columns a table may lack."""
    return () if source.reading.question is None else ("instruction",)


def columns_to_read(path: Path, source: Source) -> list[str]:
    """Return our names of the columns; without the response where a table to be answered has none.

    One that the user names must be there, and a name near to the usual ones is taken for a slip.
    """
    named, reading = source.columns.get("response"), source.reading
    without = [name for name in COLUMNS if name != "response"]
    if reading.answers == "ignored":
        return without
    if reading.answers == "required":
        return list(COLUMNS)
    wanted = names_of_columns(source, COLUMNS)
    taken = {column for name in without for column in wanted[name]}
    others = [name for name in header_of(path, reading.encoding) if name not in taken]
    usual = wanted["response"]
    if named not in (None, *_USUAL_ANSWERS) or any(
        get_close_matches(name, others, n=1) for name in usual
    ):
        return list(COLUMNS)
    logger.warning(
        "%s has no column %s: its rows are answered, and nothing is scored.",
        *(path, looked_for(usual)),
    )
    return without


def _candidates(
    name: str, named: str | None, known: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The names to look for: the one given, with its synonyms in other tables."""
    if named is None:
        return known[name]
    synonyms = _SYNONYMS[name]
    return (named, *synonyms) if named in synonyms else (named,)
