"""Single examples of a split, chosen by their ids."""

from collections.abc import Sequence
from pathlib import Path

from common.near_paths import near_path
from tasks.base import Dataset
from tasks.checks import name_some
from tasks.files import read_bytes


def read_ids(given: str) -> tuple[str, ...]:
    """Return the ids that `--ids` names: with commas between, or a line each in a file.

    Raises:
        ValueError: there is none, or the file is not UTF-8.
    """
    if Path(given).is_file():
        try:
            found = read_bytes(Path(given)).decode().splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"--ids {given} is not UTF-8; save the file as UTF-8.") from error
    else:
        found = given.split(",")
    ids = tuple(dict.fromkeys(text.strip() for text in found if text.strip()))
    if not ids:
        raise ValueError(f"--ids {given} names no example; give ids with commas between.")
    return ids


def with_ids(dataset: Dataset, ids: Sequence[str]) -> Dataset:
    """Return the examples of these ids, in the split's order.

    Raises:
        ValueError: an id is of no example; names up to five.
    """
    known = [str(example.example_id) for example in dataset]
    unknown = sorted(set(ids) - set(known))
    if unknown:
        near = near_path(unknown[0]) if len(unknown) == 1 else None
        hint = f" (did you mean the file {near}?)" if near else ""
        raise ValueError(
            f"--ids: {dataset.task.name} split '{dataset.split}' has no example "
            f"{name_some(unknown)}{hint}; its ids are like {name_some(known, 3)}."
        )
    chosen = set(ids)
    rows = [row for row, key in zip(dataset.rows, known, strict=True) if key in chosen]
    return Dataset(dataset.task, dataset.split, rows, dataset.official_name, dataset.skipped)
