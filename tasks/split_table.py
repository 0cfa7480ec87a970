"""A table in parts that share no image, each a table of the same kind."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.files import write_chunks
from tasks.table_text import SIGNS, csv_records, read_text
from tasks.tables import read_rows


@dataclass(frozen=True, slots=True)
class TablePart:
    """A part that was written: its file, and how many rows and images it has."""

    path: Path
    num_rows: int
    num_images: int


def split_table(
    path: Path,
    shares: Mapping[str, float],
    image: Sequence[str],
    *,
    encoding: str | None = None,
    seed: int = 0,
) -> list[TablePart]:
    """Write the rows of a table to `NAME_train` and a file for each held-out part, beside it.

    Rows of one image stay together: a model that was shown an image must not be scored on it. Rows
    are copied as they are written, in their order; text becomes UTF-8.

    Args:
        path: the table.
        shares: held-out part, such as `test` -> its share of the rows, about.
        image: names that the column of images may have.
        encoding: of text without a byte order mark; None for UTF-8.
        seed: of the choice of images.

    Returns:
        The parts, train first.

    Raises:
        ValueError: the table cannot be read, a part would be empty, or a file is there already.
    """
    files = {part: part_file(path, part) for part in ("train", *shares)}
    if there := [file for file in files.values() if file.exists()]:
        raise ValueError(f"{there[0]} is there already; remove it, or rename {path}.")
    groups: dict[str, list[int]] = defaultdict(list)
    for number, cells in read_rows(path, {"image": image}, lenient=True, encoding=encoding):
        groups[str(cells["image"])].append(number)
    chosen = _choose(groups, shares, seed)
    if empty := [part for part in files if not chosen[part]]:
        raise ValueError(
            f"{path} has {len(groups)} images, too few for a part {empty[0]}; change the shares."
        )
    numbers = {part: {n for key in keys for n in groups[key]} for part, keys in chosen.items()}
    contents = _contents(path, numbers, encoding)
    for part, file in files.items():
        write_chunks(file, [contents[part]])
    return [TablePart(files[part], len(numbers[part]), len(chosen[part])) for part in files]


def part_file(path: Path, part: str) -> Path:
    """Return the file of a part of a table, such as `NAME_train.csv`."""
    return path.with_name(f"{path.stem}_{part}{path.suffix}")


def _choose(
    groups: Mapping[str, list[int]], shares: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Deal the images out: each part takes them until it has its share of the rows."""
    keys = sorted(groups)
    random.Random(seed).shuffle(keys)
    num_rows = sum(map(len, groups.values()))
    chosen: dict[str, list[str]] = {}
    for part, share in shares.items():
        taken, chosen[part] = 0, []
        while keys and taken < share * num_rows:
            chosen[part].append(keys.pop())
            taken += len(groups[chosen[part][-1]])
    return {"train": keys, **chosen}


def _contents(
    path: Path, numbers: Mapping[str, set[int]], encoding: str | None
) -> dict[str, bytes]:
    """Return each part's file: the rows with these numbers, as `read_rows` counts them."""
    if path.suffix.lower() == ".parquet":
        return {part: _parquet(path, sorted(rows)) for part, rows in numbers.items()}
    text = read_text(path, encoding)
    if path.suffix.lower() == ".jsonl":
        head, lines = "", dict(enumerate(text.split("\n"), start=1))
    else:
        sign, records = csv_records(path, text)
        _, _, header = next(records)
        head = ("" if sign in SIGNS else f"sep={sign}\n") + _line(header)
        lines = {number: written for number, _, written in records}
    return {
        part: (head + "".join(_line(lines[number]) for number in sorted(rows))).encode()
        for part, rows in numbers.items()
    }


def _line(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _parquet(path: Path, numbers: Sequence[int]) -> bytes:
    from pyarrow import BufferOutputStream
    from pyarrow.parquet import read_table, write_table

    buffer = BufferOutputStream()
    write_table(read_table(path).take([number - 1 for number in numbers]), buffer)
    return bytes(buffer.getvalue())
