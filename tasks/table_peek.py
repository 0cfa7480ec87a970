"""The beginning of a table, as far as it can be read; the rest of a large file is only counted."""

import codecs
from pathlib import Path
from typing import Any

import msgspec

from tasks.arrow_rows import python_rows
from tasks.inspection import shown
from tasks.table_text import (
    SIGNS,
    UTF_8,
    csv_records,
    encoding_of,
    likely_encodings,
    utf_16_without_mark,
)

NUM_LOOKED_AT = 200  # rows whose images are looked for
_HEAD = 1 << 20  # bytes of a large file that are read


class Peek(msgspec.Struct, kw_only=True):
    """The beginning of a table.

    Attributes:
        what: the kind of file.
        count: of its rows, in words.
        columns: their names.
        rows: the first ones, each with its line.
        encoding: to be named by an option; None where it need not be.
        readings: of a text that is not UTF-8, how usual encodings read a few letters.
        notes: sentences.
    """

    what: str
    count: str
    columns: list[str]
    rows: list[tuple[int, dict[str, Any]]]
    encoding: str | None = None
    readings: str = ""
    notes: list[str] = []


def peek_table(path: Path) -> Peek | None:
    """Read the beginning of a table; None where its name does not end as one's."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _peek_csv(path)
    if suffix == ".jsonl":
        return _peek_json_lines(path)
    return _peek_parquet(path) if suffix == ".parquet" else None


class _Head(msgspec.Struct, frozen=True):
    """The whole lines at the beginning of a text; the last two as of `Peek`."""

    text: str
    encoding: str
    option: str | None
    readings: str


def _head(path: Path) -> _Head:
    with path.open("rb") as file:
        content = file.read(_HEAD)
    is_whole = len(content) < _HEAD
    found = encoding_of(content, None)
    option, readings = None, ""
    if found == UTF_8:
        option = utf_16_without_mark(content)
        found = option or found
    decoder = codecs.getincrementaldecoder(found)()
    try:
        text = decoder.decode(content, is_whole)
    except UnicodeDecodeError as error:
        whole = content if is_whole else content[: content.rfind(b"\n") + 1]
        likely = likely_encodings(whole, error.start)
        found = option = likely[0][0] if likely else "cp1252"
        readings = "no UTF-8; perhaps " + " or ".join(f"{n} ({shown(text)})" for n, text in likely)
        text = content.decode(found, "replace")
    return _Head(text if is_whole else text[: text.rfind("\n") + 1], found, option, readings)


def _count(path: Path, num_read: int) -> str:
    """Count the rows: all of a small file, else the lines, of which a row may take several."""
    size = path.stat().st_size
    if size < _HEAD:
        return f"{num_read:,}"
    with path.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_HEAD), b""))
    return f"about {lines:,} (lines of the file)"


def _peek_csv(path: Path) -> Peek:
    head = _head(path)
    sign, records = csv_records(path, head.text)
    notes: list[str] = []
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        header = [name.strip() for name in next(records, (0, [""], ""))[1]]
        for line, cells, _ in records:
            if any(cell.strip() for cell in cells):
                rows.append((line, dict(zip(header, cells, strict=False))))
    except ValueError as error:
        notes.append(str(error))
        header = list(rows[0][1]) if rows else []
    what = f"a CSV table, {head.encoding}, {SIGNS.get(sign, sign)} between columns"
    return Peek(
        what=what, count=_count(path, len(rows)), columns=[name for name in header if name],
        rows=rows, encoding=head.option,
        readings=head.readings, notes=notes,
    )  # fmt: skip


def _peek_json_lines(path: Path) -> Peek | None:
    head = _head(path)
    rows: list[tuple[int, dict[str, Any]]] = []
    notes: list[str] = []
    for number, line in enumerate(head.text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, msgspec.json.decode(line, type=dict[str, Any])))
            except (msgspec.DecodeError, RecursionError) as error:
                notes.append(f"Line {number} is no JSON object: {error}.")
                break
    columns = list(dict.fromkeys(key for _, row in rows for key in row))
    return Peek(
        what=f"JSON Lines, {head.encoding}", count=_count(path, len(rows)), columns=columns,
        rows=rows, encoding=head.option,
        readings=head.readings, notes=notes,
    )  # fmt: skip


def _peek_parquet(path: Path) -> Peek:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as content, ParquetFile(content) as file:
            batch = next(file.iter_batches(batch_size=NUM_LOOKED_AT), None)
            cells = [] if batch is None else python_rows(batch)
            names, num_rows = file.schema_arrow.names, file.metadata.num_rows
    except ArrowException as error:
        return Peek(
            what="a damaged Parquet table", count="unknown", columns=[], rows=[],
            notes=[f"It cannot be read: {str(error).partition(chr(10))[0].rstrip('.')}."],
        )  # fmt: skip
    rows = list(enumerate(cells, start=1))
    return Peek(what="a Parquet table", count=f"{num_rows:,}", columns=names, rows=rows)
