"""Tables of anyone's making, CSV, JSON Lines or Parquet: rows with the line they stand in."""

import csv
import io
import shlex
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common import markup
from common.near_paths import cannot_be_read
from tasks.arrow_rows import python_rows
from tasks.checks import name_some
from tasks.column_guess import guess_columns
from tasks.faults import Fault
from tasks.files import read_bytes
from tasks.json_objects import with_single_keys
from tasks.table_columns import MendableError, MissingColumnError, find_columns
from tasks.table_text import SIGNS, UTF_8, csv_records, encoding_of, read_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
Row = tuple[int, dict[str, Any]]  # line number, from 1, and cells under our names
Find = Callable[[Sequence[str]], dict[str, str]]  # columns of a table -> those wanted, by our names


def read_rows(
    path: Path,
    columns: Mapping[str, Sequence[str]],
    *,
    lenient: bool = False,
    encoding: str | None = None,
    optional: Collection[str] = (),
    has_options: bool = True,
    faults: list[Fault] | None = None,
) -> list[Row]:
    """Read the wanted columns of a table; blank lines do not count as rows.

    Args:
        path: `.csv` (https://www.rfc-editor.org/rfc/rfc4180, the first line names the columns;
            `.tsv` with tabs), `.jsonl` (an object per line) or `.parquet`.
        columns: our name of a column -> its names in known tables, the first that is there counts.
        lenient: of a CSV file, take what stands behind the last column's comma for its text.
        encoding: of text without a byte order mark; None for UTF-8.
        optional: our names of columns that need not be there.
        has_options: whether there are options for that and for columns, which errors then name.
        faults: takes the faults of single lines, which are errors where it is None.

    Returns:
        Each row's line, where it begins (of Parquet its number, from 1), and its cells by our
        names: text in CSV, else what the file holds; None for a key that a JSON line lacks.

    Raises:
        ValueError: unreadable, no such table, empty, or a column or a cell is missing; names the
            column's nearest ones, or the line.
    """

    def find(present: Sequence[str]) -> dict[str, str]:
        return find_columns(path, columns, present, optional)

    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        rows = _csv_rows(path, read_text(path, encoding), find, lenient, faults)
    elif suffix == ".jsonl":
        rows = _json_rows(path, _json_content(path, encoding, faults), find, faults)
    elif suffix == ".parquet":
        rows = _parquet_rows(path, find)
    else:
        raise ValueError(
            f"{path} is no table that can be read: it must end in {' or '.join(SUFFIXES)}."
        )
    try:
        found = list(rows)
    except MendableError as error:
        if not has_options:
            raise ValueError(error.without_options) from error
        needed = {ours: names for ours, names in columns.items() if ours not in optional}
        raise ValueError(_with_guess(error, path, needed, encoding)) from error
    if not (found or faults):
        raise ValueError(f"{path} has no rows; each must be one example.")
    return found


def _with_guess(
    error: MendableError,
    path: Path,
    columns: Mapping[str, Sequence[str]],
    encoding: str | None,
) -> str:
    """Return what an error says, with the options to type where the cells tell the columns."""
    if not isinstance(error, MissingColumnError):
        return str(error)
    guessed = guess_of_table(path, columns, encoding)
    options = [
        f"--{ours}_column {shlex.quote(name)}"
        for ours, name in guessed.items()
        if ours in error.missing
    ]
    if not options:
        return str(error)
    others = " and ".join(f"--{ours}_column" for ours in error.missing if ours not in guessed)
    more = f", and say what is meant by {others}" if others else ""
    return f"{error.fault}; what stands in them speaks for {' '.join(options)}{more}."


def guess_of_table(
    path: Path, columns: Mapping[str, Sequence[str]], encoding: str | None = None
) -> dict[str, str]:
    """Guess by their cells the columns of a table that none of their known names tells.

    Args:
        path: the table.
        columns: our name of a column -> its names in known tables.
        encoding: as of `read_rows`.

    Returns:
        Our name -> column; of a table that cannot be read nothing, as reading its rows says why.
    """
    try:
        present = header_of(path, encoding)
        wanted = [ours for ours, names in columns.items() if not {*present} & {*names}]
        if not wanted:
            return {}
        found = read_rows(path, {n: (n,) for n in present}, lenient=True, encoding=encoding)
    except ValueError:
        return {}
    free = [name for name in present if all(name not in names for names in columns.values())]
    return guess_columns({name: [cells[name] for _, cells in found] for name in free}, wanted)


def header_of(path: Path, encoding: str | None = None) -> list[str]:
    """Return the names of a table's columns in their order, of JSON Lines the keys of any line.

    Args:
        path: the table.
        encoding: as of `read_rows`.

    Raises:
        ValueError: unreadable.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_schema

        try:
            return list(read_schema(path).names)
        except (ArrowInvalid, OSError):
            return []  # reading its rows says what is wrong
    if suffix == ".jsonl":
        return _json_keys(path, _json_content(path, encoding, None))
    return _header(next(csv_records(path, read_text(path, encoding))[1], (0, [], ""))[1])


def _header(cells: Sequence[str]) -> list[str]:
    return _without_empty_end([name.strip() for name in cells], 0)


def write_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the lines of a CSV file, its header first; lists become JSON, formulas texts."""
    for number, row in enumerate(rows):
        if number == 0:
            yield csv_line(row)
        yield csv_line(row.values())


def _csv_rows(
    path: Path, text: str, find: Find, lenient: bool, faults: list[Fault] | None
) -> Iterator[Row]:
    separator, lines = csv_records(path, text)
    header = _header(next(lines, (0, [], ""))[1])
    if not header:
        raise ValueError(f"{path} is empty; its first line must name the columns.")
    places = {name: header.index(column) for name, column in find(header).items()}
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
        sign = SIGNS.get(separator, repr(separator))
        quoted = f"a text with {sign} must stand in quotes"
        raise MendableError(
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


def note_line(faults: list[Fault] | None, path: Path, number: int, error: ValueError) -> None:
    """Add the fault of a line to those that are listed; raise it where none are."""
    if faults is None:
        raise error
    faults.append(Fault(number, str(path), str(error)))


def _json_content(path: Path, encoding: str | None, faults: list[Fault] | None) -> bytes:
    """Return the lines in UTF-8; where faults are listed, one that is not is a fault of its own."""
    content = read_bytes(path, keep_mark=True)
    if encoding_of(content, encoding).startswith(UTF_8) and faults is not None:
        return content.removeprefix(BOM_UTF8)
    return read_text(path, encoding, content).encode()


def _json_rows(path: Path, content: bytes, find: Find, faults: list[Fault] | None) -> Iterator[Row]:
    present, found = _json_keys(path, content), dict[str, str]()
    for number, record in _json_objects(path, content, faults):
        found = found or find(present)
        yield number, {name: record.get(column) for name, column in found.items()}


def _json_keys(path: Path, content: bytes) -> list[str]:
    """Return the keys of all lines that can be read, as they first appear."""
    records = _json_objects(path, content, [])
    return list(dict.fromkeys(key for _, record in records for key in record))


def _json_objects(
    path: Path, content: bytes, faults: list[Fault] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            if line.strip():
                yield number, _json_object(line, f"{path}, line {number}")
        except ValueError as error:
            note_line(faults, path, number, error)


def _json_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        return with_single_keys(found, line, where)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is not a JSON object ({error}); write one per line.") from error


def _parquet_rows(path: Path, find: Find) -> Iterator[Row]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as content, ParquetFile(content) as file:
            found = find(file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=sorted(set(found.values()))):
                for record in python_rows(batch):
                    number += 1
                    yield number, {name: record[column] for name, column in found.items()}
    except ArrowInvalid as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{path} is no Parquet file that can be read: {reason}.") from error
    except OSError as error:
        raise ValueError(cannot_be_read(path, error)) from error


def csv_line(cells: Iterable[Any]) -> bytes:
    """Return a line of a CSV file; lists become JSON, and what a spreadsheet would run a text."""
    return plain_csv_line(map(markup.cell, cells))


def plain_csv_line(cells: Iterable[Any]) -> bytes:
    """Return a line of a CSV file with its texts as they are; lists become JSON."""
    buffer = io.StringIO(newline="")
    # some versions of Python quote only the line breaks that the line end has: take both
    csv.writer(buffer, lineterminator="\r\n").writerow(map(_plain, cells))
    return buffer.getvalue().removesuffix("\r\n").encode() + b"\n"


def _plain(cell: Any) -> Any:
    return msgspec.json.encode(cell).decode() if isinstance(cell, list | tuple | dict) else cell
