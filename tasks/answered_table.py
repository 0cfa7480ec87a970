"""A table of the user's own, written again with a column of predictions."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.table_reading import TableReading
from tasks.tables import header_of, read_rows, write_csv

PREDICTION = "prediction"


def check_has_room(path: Path, reading: TableReading) -> None:
    """Raise ValueError where a table has a column of predictions already."""
    if PREDICTION in header_of(path, reading.encoding):
        raise ValueError(f"{path} has a column '{PREDICTION}' already; rename it there.")


def with_predictions(
    path: Path, predictions: Mapping[int, str], reading: TableReading
) -> Iterator[bytes]:
    """Yield the lines of a CSV file: a table with a column more, which holds the predictions.

    Args:
        path: the table, of any format that is read.
        predictions: by the row's line, as `read_rows` counts.
        reading: how the table is read.
    """
    columns = {name: (name,) for name in header_of(path, reading.encoding)}
    rows = read_rows(path, columns, lenient=reading.lenient, encoding=reading.encoding)
    yield from write_csv({**cells, PREDICTION: predictions[number]} for number, cells in rows)
