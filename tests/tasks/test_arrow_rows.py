"""Floats of few bits in Parquet and in sets of `datasets`: the texts that people wrote."""

from pathlib import Path

import datasets
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from tasks.base import Source
from tasks.registry import get_task
from tasks.table_peek import peek_table

WRITTEN = ["0.1", "2.5", "3"]


def cells(kind: pyarrow.DataType) -> pyarrow.Table:
    """A table of three answers of a type."""
    names = [f"{number}.png" for number in range(3)]
    numbers = [[0.1], [2.5], [3.0]] if pyarrow.types.is_list(kind) else [0.1, 2.5, 3.0]
    columns = {"image": names, "instruction": ["q"] * 3, "response": pyarrow.array(numbers, kind)}
    return pyarrow.table(columns)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.float32(),
        pyarrow.float64(),
        pyarrow.list_(pyarrow.float32()),
    ],
)
def test_a_float_of_a_parquet_table_is_the_text_that_was_written(
    tmp_path: Path, kind: pyarrow.DataType
) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(cells(kind), path)
    source = Source(tables={"train": path}, with_images=False)
    found = [example.references for example in get_task("csv_qa").load("train", source)]
    assert found == [(text,) for text in WRITTEN]


def test_a_float_of_a_saved_set_is_the_text_that_was_written(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    features = datasets.Features(
        image=datasets.Image(),
        instruction=datasets.Value("string"),
        response=datasets.Value("float32"),
    )
    rows = {"image": [str(tmp_path / "0.png")] * 3, "instruction": ["q"] * 3}
    table = datasets.Dataset.from_dict({**rows, "response": [0.1, 2.5, 3.0]}, features)
    datasets.DatasetDict(train=table).save_to_disk(str(tmp_path / "set"))
    dataset = get_task("csv_qa").load("train", Source(data_root=tmp_path / "set"))
    assert [example.references for example in dataset] == [(text,) for text in WRITTEN]


def test_inspect_shows_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(cells(pyarrow.float32()), path)
    peek = peek_table(path)
    assert peek is not None and [row["response"] for _, row in peek.rows] == [0.1, 2.5, 3.0]
