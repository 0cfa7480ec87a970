"""A table in parts that share no image, each a table of the same kind."""

import logging
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.files import write_chunks
from tasks.base import Source
from tasks.table_images import find_images, names_of_rows, numbered
from tasks.table_text import SIGNS, csv_records, read_text
from tasks.tables import read_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TablePart:
    """A part that was written: its file, and how many rows and images it has."""

    path: Path
    num_rows: int
    num_images: int


def split_table(
    path: Path,
    shares: Mapping[str, float],
    images: Mapping[str, Sequence[str]],
    *,
    encoding: str | None = None,
    seed: int = 0,
) -> list[TablePart]:
    """Write the rows of a table to `NAME_train` and a file for each held-out part, beside it.

    Rows that share an image stay together, also by way of other rows: a model that was shown an
    image must not be scored on it. Rows are copied as they are written, in their order; text
    becomes UTF-8. A part that is far from its share is said.

    Args:
        path: the table.
        shares: held-out part, such as `test` -> its share of the rows, about.
        images: our name of each column of images -> names that it may have.
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
    named = _images_of_rows(path, images, encoding)
    groups = _joined(named)
    wishes = {part: share * len(named) for part, share in shares.items()}
    numbers = _deal(groups, wishes, seed)
    if empty := [part for part in files if not numbers[part]]:
        raise ValueError(
            f"{path} has {len(groups)} group(s) of rows that share no image with another one, too "
            f"few for a part {empty[0]}; change the shares, or leave out rows of several images "
            "that join others."
        )
    contents = _contents(path, numbers, encoding)
    for part, file in files.items():
        write_chunks(file, [contents[part]])
    for part, wish in wishes.items():
        if abs(len(numbers[part]) - wish) > max(1, wish / 4):
            logger.warning(
                "%s has %d rows where about %.0f were asked for: rows that share an image stay "
                "together, which makes a group of %d of the %d rows.",
                *(files[part], len(numbers[part]), wish, max(map(len, groups)), len(named)),
            )
    images_of = {
        part: {image for n in rows for image in named[n]} for part, rows in numbers.items()
    }
    return [
        TablePart(file, len(numbers[part]), len(images_of[part])) for part, file in files.items()
    ]


def part_file(path: Path, part: str) -> Path:
    """Return the file of a part of a table, such as `NAME_train.csv`."""
    return path.with_name(f"{path.stem}_{part}{path.suffix}")


def _images_of_rows(
    path: Path, images: Mapping[str, Sequence[str]], encoding: str | None
) -> dict[int, set[str]]:
    """Return the files of each row's images, named as where they are opened: one name for each."""
    cells = read_rows(path, images, lenient=True, encoding=encoding)
    named = [(number, {name: _name(cell) for name, cell in row.items()}) for number, row in cells]
    places = names_of_rows(named, path, None)
    found = find_images([*numbered(places)], path, Source(with_images=False), "")
    files = {place: os.path.realpath(image.name) for place, image in found.items()}
    return {number: {files[place] for place in own} for number, own in places.items()}


def _name(cell: Any) -> Any:
    """Return a cell with a name in place of each image that the table itself holds."""
    if isinstance(cell, list):
        return [_name(entry) for entry in cell]
    if isinstance(cell, dict):
        return _name(cell.get("bytes") or cell.get("path"))
    return sha256(cell).hexdigest() if isinstance(cell, bytes) else cell


def _joined(images: Mapping[int, set[str]]) -> list[list[int]]:
    """Join the rows that share an image, directly or by way of others; in the images' order."""
    leaders: dict[str, str] = {}

    def leader(image: str) -> str:
        while (above := leaders.setdefault(image, image)) != image:
            leaders[image] = image = leaders[above]
        return image

    for first, *others in map(sorted, images.values()):
        for other in others:
            low, high = sorted((leader(first), leader(other)))
            leaders[high] = low  # the first by name leads, in whichever order the rows come
    groups: dict[str, list[int]] = defaultdict(list)
    for number, own in images.items():
        groups[leader(next(iter(own)))].append(number)
    return [groups[first] for first in sorted(groups)]


def _deal(
    groups: Sequence[list[int]], wishes: Mapping[str, float], seed: int
) -> dict[str, set[int]]:
    """Deal groups of rows out: each part takes those that bring it nearer to its wished number."""
    left = [*groups]
    random.Random(seed).shuffle(left)
    chosen: dict[str, list[list[int]]] = {}
    for part, missing in wishes.items():
        own: list[list[int]] = []
        rest: list[list[int]] = []
        for group in left:
            is_nearer = len(group) < 2 * missing
            (own if is_nearer else rest).append(group)
            missing -= len(group) * is_nearer
        if rest and not own:
            own = [min(rest, key=len)]
            rest.remove(own[0])
        chosen[part], left = own, rest
    return {
        part: {number for group in own for number in group}
        for part, own in {"train": left, **chosen}.items()
    }


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
