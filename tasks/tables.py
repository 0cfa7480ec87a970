"""Tables of anyone's making, CSV, JSON Lines or Parquet: rows with the line they stand in."""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from common import markup
from tasks.checks import name_some
from tasks.faults import Fault
from tasks.files import read_bytes

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")  # what Excel reads and writes before the header
Row = tuple[int, dict[str, Any]]  # line number, from 1, and cells under our names


def read_rows(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    *,
    lenient: bool,
    has_options: bool = True,
    faults: list[Fault] | None = None,
) -> list[Row]:
    """Read the wanted columns of a table; blank lines do not count as rows.

    Args:
        path: `.csv` (https://www.rfc-editor.org/rfc/rfc4180, in UTF-8, the first line names the
            columns; `.tsv` with tabs), `.jsonl` (an object per line) or `.parquet`.
        columns: our name of a column -> its names in known tables, the first that is there counts.
        lenient: of a CSV file, take what stands behind the last column's comma for its text.
        has_options: whether there are options for that and for columns, which errors then name.
        faults: takes the faults of single lines, which are errors where it is None.

    Returns:
        Each row's line, where it begins (of Parquet its number, from 1), and its cells by our
        names: text in CSV, else what the file holds.

    Raises:
        ValueError: unreadable, no such table, empty, or a column or a cell is missing; names the
            column's nearest ones, or the line.
    """
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        rows = _csv_rows(path, columns, lenient, faults)
    elif suffix == ".jsonl":
        rows = _json_rows(path, columns, faults)
    elif suffix == ".parquet":
        rows = _parquet_rows(path, columns)
    else:
        raise ValueError(
            f"{path} is no table that can be read: it must end in {' or '.join(SUFFIXES)}."
        )
    try:
        found = list(rows)
    except _Mendable as error:
        remedy = error.option if has_options else error.file
        raise ValueError(f"{error}; {remedy}.") from error
    if not (found or faults):
        raise ValueError(f"{path} has no rows; each must be one example.")
    return found


class _Mendable(ValueError):
    """A mistake that an option mends, where there is one, or a change of the file."""

    def __init__(self, fault: str, *, option: str, file: str) -> None:
        super().__init__(fault)
        self.option, self.file = option, file


def write_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the lines of a CSV file, its header first; lists become JSON, formulas texts."""
    for number, row in enumerate(rows):
        if number == 0:
            yield csv_line(row)
        yield csv_line(row.values())


def _csv_rows(
    path: Path, columns: Mapping[str, Sequence[str]], lenient: bool, faults: list[Fault] | None
) -> Iterator[Row]:
    separator, lines = _csv_lines(path)
    _, header, _ = next(lines, (0, [], ""))
    header = _without_empty_end([name.strip() for name in header], 0)
    if not header:
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    if len(header) == 1 and (other := next((sign for sign in ";\t" if sign in header[0]), None)):
        raise ValueError(
            f"{path} has {other!r} between its columns; save it with commas, as CSV has them."
        )
    places = {name: header.index(column) for name, column in _find(path, columns, header).items()}
    wrong: list[int] = []
    for number, cells, record in lines:
        cells = _without_empty_end(cells, len(header))
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header) and lenient:
            last = len(header) - 1
            written = _without_empty_end(next(csv.reader([record], delimiter=separator)), 0)
            cells = [*cells[:last], separator.join(written[last:])]
        if len(cells) < len(header):
            short = ValueError(
                f"{path}, line {number} has {len(cells)} of the {len(header)} columns "
                f"{', '.join(header)}; each line needs all, empty ones too."
            )
            note_line(faults, path, number, short)
            continue
        if len(cells) > len(header) and faults is not None:
            note_line(faults, path, number, ValueError("The line has more cells than columns."))
            continue
        if len(cells) > len(header):
            wrong.append(number)
        yield number, {name: cells[place] for name, place in places.items()}
    if wrong:
        quoted = "a text with a comma must stand in quotes"
        raise _Mendable(
            f"{path} has more cells than its {len(header)} columns in {len(wrong)} line(s): "
            f"{name_some(wrong)}",
            option=f"{quoted}, or pass --csv_lenient to take the rest of such a line for the text "
            f"of the last column, '{header[-1]}'",
            file=quoted,
        )


def _without_empty_end(cells: list[str], least: int) -> list[str]:
    """Return cells without the empty ones that a spreadsheet writes behind the last column."""
    while len(cells) > least and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _csv_lines(path: Path) -> tuple[str, Iterator[tuple[int, list[str], str]]]:
    """Return the sign between cells, and the records: first line, cells, and as it is written."""
    text = _text(path)
    separator, start = "\t" if path.suffix.lower() == ".tsv" else ",", 1
    if match := _SEPARATOR_LINE.match(text):
        separator, start, text = match[1], 2, text[match.end() :]
    return separator, _records(path, text, separator, start)


def _records(
    path: Path, text: str, separator: str, start: int
) -> Iterator[tuple[int, list[str], str]]:
    written: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            written.append(line)
            yield line

    limit = csv.field_size_limit(sys.maxsize)  # a cell may be longer than the module allows
    try:
        # strict: a quote that is never closed would otherwise swallow the rest of the file
        for cells in csv.reader(
            lines(), delimiter=separator, strict=True, skipinitialspace=separator != "\t"
        ):
            if cells:
                yield start, cells, "".join(written)
            start += len(written)
            written.clear()
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {start}: {error}; a quote inside a quoted text is written twice, and "
            "one that is opened must be closed."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _text(path: Path) -> str:
    content = read_bytes(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line} is not UTF-8; save the file as UTF-8.") from error


def note_line(faults: list[Fault] | None, path: Path, number: int, error: ValueError) -> None:
    """Add the fault of a line to those that are listed; raise it where none are."""
    if faults is None:
        raise error
    faults.append(Fault(number, str(path), str(error)))


def _json_rows(
    path: Path, columns: Mapping[str, Sequence[str]], faults: list[Fault] | None
) -> Iterator[Row]:
    found: dict[str, str] = {}
    for number, line in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _json_object(line, path, number)
            found = found or _find(path, columns, list(record))
            if missing := [column for column in found.values() if column not in record]:
                raise ValueError(
                    f"{path}, line {number} has no '{missing[0]}', which its first line has; give "
                    "each object all columns."
                )
        except ValueError as error:
            if isinstance(error, _Mendable):
                raise  # it is of the table
            note_line(faults, path, number, error)
            continue
        yield number, {name: record[column] for name, column in found.items()}


def _json_object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except RecursionError as error:
        raise ValueError(f"{path}, line {number} is nested too deeply to be read.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}, line {number} is not a JSON object ({error}); write one per line."
        ) from error


def _parquet_rows(path: Path, columns: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as content, ParquetFile(content) as file:
            found = _find(path, columns, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=sorted(set(found.values()))):
                for record in batch.to_pylist():
                    number += 1
                    yield number, {name: record[column] for name, column in found.items()}
    except ArrowInvalid as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{path} is no Parquet file that can be read: {reason}.") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error


def _find(
    path: Path, columns: Mapping[str, Sequence[str]], present: Sequence[str]
) -> dict[str, str]:
    """Our name of each column -> its name in the table."""
    found = {}
    for name, candidates in columns.items():
        column = next((column for column in candidates if column in present), None)
        if column is None:
            raise _missing(path, name, candidates, present)
        if present.count(column) > 1:
            raise ValueError(f"{path} has the column '{column}' twice; name each column once.")
        found[name] = column
    return found


def _missing(path: Path, name: str, candidates: Sequence[str], present: Sequence[str]) -> _Mendable:
    near = [n for c in candidates for n in get_close_matches(c, present, n=2)]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    return _Mendable(
        f"{path} has no column '{' or '.join(candidates)}'{hint}, its columns are "
        f"{', '.join(present) or 'none'}",
        option=f"say which one is meant by --{name}_column",
        file="name it so in the header",
    )


def csv_line(cells: Iterable[Any]) -> bytes:
    """Return a line of a CSV file; lists become JSON, and what a spreadsheet would run a text."""
    buffer = io.StringIO(newline="")
    # some versions of Python quote only the line breaks that the line end has: take both
    csv.writer(buffer, lineterminator="\r\n").writerow(
        [markup.cell(_plain(cell)) for cell in cells]
    )
    return buffer.getvalue().removesuffix("\r\n").encode() + b"\n"


def _plain(cell: Any) -> Any:
    return msgspec.json.encode(cell).decode() if isinstance(cell, list | tuple) else cell
