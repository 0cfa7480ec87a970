"""The files of a report: predictions.jsonl, metrics.json, and predictions.csv of tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from common.files import write_chunks
from common.json_files import write_json
from tasks.report import Report
from tasks.tables import write_csv


def write_report(report: Report, folder: Path) -> None:
    """Write predictions.jsonl and metrics.json; a reader never finds half a file.

    Of a task that reads tables the predictions are written as a table too, predictions.csv.

    Raises:
        ValueError: the folder cannot be written to.
    """
    write_predictions(report, folder)
    with writing_to(folder):
        write_json(folder / "metrics.json", report.metrics_json(), ensure_ascii=False)
        if report.task.reads_tables:
            write_chunks(folder / "predictions.csv", write_csv(report.table_rows()))


def write_predictions(report: Report, folder: Path) -> None:
    """Write predictions.jsonl alone, as before a long scoring; scores of others are removed.

    Raises:
        ValueError: the folder cannot be written to.
    """
    encoder = msgspec.json.Encoder()
    with writing_to(folder):
        rows = (encoder.encode(row) + b"\n" for row in report.prediction_rows())
        write_chunks(folder / "predictions.jsonl", rows)
        for name in ("metrics.json", "predictions.csv", "report.html"):
            (folder / name).unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise ValueError, which names the folder, in place of the system's errors in the block."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"The results cannot be written to {folder}: {error.strerror}; choose another folder "
            "by --output_dir."
        ) from error
