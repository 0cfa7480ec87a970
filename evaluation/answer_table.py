"""Ask a model the questions of a table: no score, the table may be without answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from common.files import check_writable, write_chunks
from evaluation.answer_images import ImageAnswer, answer_examples
from evaluation.request import ModelRequest, PromptRequest
from tasks.answered_table import whole_rows, with_predictions
from tasks.base import Example, Source, Task
from tasks.tables import SUFFIXES, Row

_SPLIT = "test"  # the name under which a source holds the table


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuestions:
    """The questions of a table.

    Attributes:
        task: whose prompt, decoding and cleaning are taken.
        reader: the task that reads the table.
        model: answers.
        source: holds the table.
        prompt: settings of the prompt.
        output: takes the table with a column more; None writes nothing.
    """

    task: Task
    reader: Task
    model: ModelRequest
    source: Source
    prompt: PromptRequest
    output: Path | None = None


class _TableReader(Protocol):
    """A task that reads tables."""

    def table_rows(self, split: str, source: Source) -> Sequence[Any]: ...

    def example(self, row: Any) -> Example: ...


def answer_table(request: TableQuestions) -> tuple[Sequence[Example], list[ImageAnswer]]:
    """Answer each row of a table, and write the table with the answers where that is asked for.

    Returns:
        The rows in their order, and their answers.

    Raises:
        ValueError: a row or its image cannot be read, the output is there already, or the model
            cannot be used.
    """
    table = request.source.tables[_SPLIT]
    written: list[Row] = []
    if request.output is not None:
        _check_output(request.output, table)
        written = whole_rows(table, request.source.reading)
    reader = cast(_TableReader, request.reader)
    # each row is answered by itself, also where the task scores several as one
    reading = replace(request.source.reading, answers="ignored")
    rows = reader.table_rows(_SPLIT, replace(request.source, reading=reading))
    examples = [reader.example(row) for row in rows]
    for image in dict.fromkeys(image for example in examples for image in example.images):
        image.open()  # before a model is loaded
    answers = answer_examples(
        request.task, request.model, request.prompt, examples, "in each row of the table"
    )
    if request.output is not None:
        found = {
            int(example.example_id): answer.prediction
            for example, answer in zip(examples, answers, strict=True)
        }
        write_chunks(request.output, with_predictions(written, found))
    return examples, answers


def _check_output(output: Path, table: Path) -> None:
    if table.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--output writes a table again, and {table} is no file of one table.")
    if output.suffix.lower() != ".csv":
        raise ValueError(f"--output {output} must end in .csv, which is what is written.")
    if output.exists():
        raise ValueError(f"--output {output} is there already and stays; name another file.")
    check_writable(output.parent, "--output")
