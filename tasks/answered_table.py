"""A table of the user's own, written again with a column of predictions."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common import markup
from tasks.table_reading import TableReading
from tasks.tables import Row, header_of, plain_csv_line, read_rows

PREDICTION = "prediction"


def whole_rows(path: Path, reading: TableReading) -> list[Row]:
    """Read a table with all its columns, by their own names.

    Raises:
        ValueError: as of `read_rows`, or the table has a column of predictions already.
    """
    names = header_of(path, reading.encoding)
    if PREDICTION in names:
        raise ValueError(f"{path} has a column '{PREDICTION}' already; rename it there.")
    columns = {name: (name,) for name in names}
    return read_rows(path, columns, lenient=reading.lenient, encoding=reading.encoding)


def with_predictions(rows: Sequence[Row], predictions: Mapping[int, str]) -> Iterator[bytes]:
    """Yield the lines of a CSV file: a table with a column more, which holds the predictions.

    The user's own cells stay as they are; a prediction that a spreadsheet would run is made a text.

    Args:
        rows: as `whole_rows` gives them, one at least.
        predictions: by the row's line.
    """
    yield plain_csv_line([*rows[0][1], PREDICTION])
    for number, cells in rows:
        yield plain_csv_line([*cells.values(), markup.cell(predictions[number])])
