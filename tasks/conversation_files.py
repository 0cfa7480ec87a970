"""Files of conversations -> records: JSON arrays, JSON Lines, Parquet, and copies on the Hub.

A file is known by its content. Its name says nothing: LLaVA's `.json` files are arrays, those of
others are often JSON Lines.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from common.near_paths import cannot_be_read
from tasks.conversation_turns import JUDGED, NAMES, UNREAD
from tasks.faults import Fault
from tasks.files import read_bytes
from tasks.hub import HubTable, open_parquet
from tasks.json_objects import with_single_keys
from tasks.tables import note_line

SUFFIXES = (".jsonl", ".json", ".parquet")
_BOM = b"\xef\xbb\xbf"
_Json = TypeVar("_Json")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Record(NamedTuple):
    """A record and its place.

    Attributes:
        number: of the line or the element, from 1; of a row of a table, from 0.
        place: the same in words, as in "line 3".
        where: the file and the place, which an error begins with.
        content: its keys and values.
    """

    number: int
    place: str
    where: str
    content: Mapping[str, Any]


def _record(name: object, place: str, number: int, content: Mapping[str, Any]) -> Record:
    return Record(number, f"{place} {number}", f"{name}, {place} {number}", content)


def read_file(
    path: Path, columns: Mapping[str, str], faults: list[Fault] | None
) -> Iterator[Record]:
    """Yield the records of a file; JSON Lines are read line by line.

    Args:
        path: of the file.
        columns: our name of a key -> its name in the file, where that is another one.
        faults: takes the faults of single records, which are errors where it is None.

    Raises:
        ValueError: unreadable, or of none of the forms; names the place.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16).removeprefix(_BOM).lstrip()
    except OSError as error:
        raise ValueError(cannot_be_read(path, error)) from error
    if start.startswith(b"PAR1"):
        yield from read_table(open_parquet(path, columns))
    elif start.startswith(b"["):
        yield from _elements(path, faults)
    elif start.startswith(b"{"):
        yield from _lines(path, faults)
    else:
        what = "is empty" if not start else "is neither JSON in UTF-8 nor Parquet"
        raise ValueError(
            f"{path} {what}; give a JSON array of conversations, JSON Lines with one on each line, "
            "or a Parquet file."
        )


def read_table(table: HubTable) -> Iterator[Record]:
    """Yield the rows of a table; images in it are opened when they are needed.

    Raises:
        ValueError: no column has conversations.
    """
    present = table.table.column_names
    features = table.table.features
    names = {**{name: name for known in NAMES.values() for name in known}, **table.overrides}
    columns = [column for column in names.values() if column in present]
    if not {*NAMES["messages"], table.overrides.get("messages")} & set(columns):
        wanted = table.overrides.get("messages") or " or ".join(NAMES["messages"])
        raise ValueError(
            f"{table.name} has no column '{wanted}', its columns are {', '.join(present)}; name it "
            "by --hub_columns messages=COLUMN."
        )
    images = [
        column
        for column in (names["image"], names["images"])
        if column in columns and not _is_text(features[column])
    ]
    texts = [c for c in columns if c not in images] + [
        key for key in (*UNREAD, *JUDGED) if key in present
    ]
    cells = msgspec.defstruct("Cells", [(name, Any, None) for name in dict.fromkeys(texts)])
    rows = table.rows(cells)
    lists = [table.image_lists(column) for column in images]
    for index, (row, *found) in enumerate(zip(rows, *lists, strict=True)):
        content = msgspec.structs.asdict(row) | dict(zip(images, found, strict=True))
        yield _record(table.name, "row", index, content)


def _is_text(feature: Any) -> bool:
    return "string" in getattr(getattr(feature, "feature", feature), "dtype", "")


def _lines(path: Path, faults: list[Fault] | None) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if not line.strip():
                continue
            try:
                content = _object(line, f"{path}, line {number}")
            except ValueError as error:
                note_line(faults, path, number, error)
                continue
            yield _record(path, "line", number, content)


def _elements(path: Path, faults: list[Fault] | None) -> Iterator[Record]:
    content = read_bytes(path)
    remedy = "write it anew, or copy it again"
    elements = _decoded(content, list[msgspec.Raw], path, "a complete JSON array", remedy)
    for number, element in enumerate(elements, start=1):
        try:
            record = _object(bytes(element), f"{path}, element {number}")
        except ValueError as error:
            note_line(faults, path, number, error)
            continue
        yield _record(path, "element", number, record)


def _object(content: bytes, where: str) -> dict[str, Any]:
    remedy = "write one conversation as one object, of JSON Lines on one line"
    found = _decoded(content, dict[str, Any], where, "a JSON object", remedy)
    return with_single_keys(found, content, where)


def _decoded(content: bytes, kind: type[_Json], where: object, what: str, remedy: str) -> _Json:
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read.") from error
    except _UNREADABLE as error:
        hint = ", and JSON has no NaN: write null" if b"NaN" in content else ""
        raise ValueError(f"{where} is not {what} ({error}){hint}; {remedy}.") from error
