"""Tables looked at: encoding, columns and first rows, and whether the images are there.

No image is opened.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tasks.base import Source
from tasks.cells import written_list
from tasks.column_guess import guess_columns
from tasks.images import UnusableImage
from tasks.inspection import (
    OURS,
    Inspection,
    Mapped,
    command,
    map_columns,
    missing_note,
    row_line,
    shown,
    use_commands,
)
from tasks.registry import get_task
from tasks.split_table import part_file
from tasks.table_files import SHARD_SUFFIX, SPLIT_NAMES, Shards, Table, find_table, open_table
from tasks.table_images import find_images, names_in
from tasks.table_peek import NUM_LOOKED_AT, Peek, peek_table
from tasks.webdataset import read_samples

_NUM_ROWS = 3
_FEW = 5  # images of a table that is not worth to be split


def inspect_table(path: Path) -> Inspection | None:
    """Describe a CSV, JSON Lines or Parquet table."""
    if not path.is_file() or (peek := peek_table(path)) is None:
        return None
    return _described(path, peek, None, peek.what)


def inspect_image_folder(path: Path) -> Inspection | None:
    """Describe a folder with tables or with metadata of its images, of one split or of several."""
    if not path.is_dir():
        return None
    files = {split: table for split, table in _tables(path).items() if isinstance(table, Path)}
    if not files:
        return None
    first = files.get("train") or next(iter(files.values()))
    if (peek := peek_table(first)) is None:
        return None
    is_image_folder = first.stem == "metadata"
    what = f"{'an image folder with metadata' if is_image_folder else 'a folder of tables'}: "
    found = _described(first, peek, path, what + peek.what)
    names = [f"{split} ({table.relative_to(path)})" for split, table in files.items()]
    found.facts.insert(0, ("splits", ", ".join(names)))
    if "train" not in files:
        found.commands = [line for line in found.commands if " train " not in line]
    return found


def _tables(folder: Path) -> dict[str, Table]:
    """Find the tables of the splits in a folder."""
    found: dict[str, Table] = {}
    for split in SPLIT_NAMES:
        with suppress(ValueError):
            found[split] = find_table(folder, split, "", f"--{split}_csv")
    return found


def inspect_shards(path: Path) -> Inspection | None:
    """Describe WebDataset shards: one, several by a number in braces, or a folder of them."""
    if path.is_dir():
        tables = _tables(path)
        shards = [table for table in tables.values() if isinstance(table, Shards)]
        if not shards:
            return None
        table, place = shards[0], ["--data_root", path]
    elif path.suffix.lower() == SHARD_SUFFIX:
        one = open_table(path)
        assert isinstance(one, Shards), "a tar file is nothing else"
        tables, table, place = {}, one, []
    else:
        return None
    what = f"WebDataset, {len(table.paths)} shard(s)"
    try:
        samples = list(read_samples(table.paths[:1], None))
    except ValueError as error:
        return Inspection(what=what, notes=[str(error)])
    columns = list(dict.fromkeys(name for sample in samples for name in sample.cells))
    mapped = map_columns(["image", *(name for name in columns if name != "image")])
    named = {name: column for name, column in mapped.columns.items() if name != "image"}
    mapped = msgspec.structs.replace(mapped, columns=named)
    of = f"of {table.paths[0].name}" if len(table.paths) > 1 else ""
    names = ", ".join(f"{split} ({table})" for split, table in tables.items())
    facts = [("splits", names)] if tables else []
    facts += [("samples", f"{len(samples):,} {of}".strip()), *mapped.facts()]
    rows = [row_line(s.number, {"": s.images[0].member, **s.cells}) for s in samples[:_NUM_ROWS]]
    found = Inspection(what=what, facts=facts, rows=rows)
    if mapped.task is None:
        found.notes.append(missing_note(mapped))
        return found
    options = mapped.options()
    words = {
        "train": [*(place or ["--train_csv", path]), *options],
        "other": [*(place or ["--csv", path]), *options],
    }
    found.commands = use_commands(mapped.task, words)
    return found


def _described(path: Path, peek: Peek, folder: Path | None, what: str) -> Inspection:
    """Describe a table by its beginning; a folder is read in its place."""
    mapped = _mapped(peek)
    facts = [("rows", peek.count), *mapped.facts()]
    if peek.readings:
        facts.insert(0, ("encoding", peek.readings))
    holds_images = "image" in mapped.columns and any(
        isinstance(cells.get(mapped.columns["image"]), dict | bytes) for _, cells in peek.rows
    )
    if "image" in mapped.columns and not holds_images:
        facts.append(("images", _images(path, mapped, peek.rows)))
    rows = [row_line(number, cells) for number, cells in peek.rows[:_NUM_ROWS]]
    found = Inspection(what=what, facts=facts, rows=rows, notes=list(peek.notes))
    if holds_images:
        found.notes.append(
            "The table holds the images themselves: read its folder by --hub_repo "
            f"{shown(str(path.parent))} in place of a table."
        )
    elif peek.notes:
        pass  # it cannot be read as it stands
    elif mapped.task is None:
        found.notes.append(missing_note(mapped))
    else:
        found.facts.append(("metric", mapped.metric or get_task(mapped.task).metric))
        found.commands = _commands(path, peek, mapped, folder)
    return found


def _commands(path: Path, peek: Peek, mapped: Mapped, folder: Path | None) -> list[str]:
    """Return what to type; a table in one piece is split first, for a part to be scored on."""
    assert mapped.task is not None, "a table that a task reads"
    options, metric = mapped.options(), mapped.training_options()
    encoding = ["--encoding", peek.encoding] if peek.encoding else []
    if folder is not None:
        where = ["--data_root", folder, *options, *encoding]
        return use_commands(mapped.task, {"train": [*where, *metric], "other": where})
    before, of_parts, parts = [], encoding, _parts(path)
    if len(parts) == 1 and _num_images(peek, mapped.columns["image"]) >= _FEW:
        image = (
            ["--image_column", mapped.columns["image"]] if "image" in dict(mapped.renamed()) else []
        )
        before, of_parts = [command("split", path, *image, *encoding)], []  # it writes UTF-8
        parts = {part: part_file(path, part) for part in ("train", "test")}
    tables = [word for part, file in parts.items() for word in (f"--{part}_csv", file)]
    output = ["--output_dir", Path("runs", _prefix(path).strip("-_.") or mapped.task)]
    words = {
        "train": [*tables, *options, *of_parts, *metric, *output],
        "other": ["--csv", path, *options, *encoding],
    }
    return [*before, *use_commands(mapped.task, words)]


def _prefix(path: Path) -> str:
    """Return what the names of a table's parts begin with: `NAME_`, or nothing of `train.csv`."""
    known = "|".join(name for names in SPLIT_NAMES.values() for name in names)
    found = re.fullmatch(f"(|.*[-_.])(?:{known})", path.stem)
    return found[1] if found else f"{path.stem}_"


def _parts(path: Path) -> dict[str, Path]:
    """Return the parts that a table has beside it: split -> file; itself alone where none is."""
    found = {
        part: file
        for part, names in SPLIT_NAMES.items()
        for name in reversed(names)
        if (file := path.with_name(f"{_prefix(path)}{name}{path.suffix}")).is_file()
    }
    return found if "train" in found else {"train": path}


def _num_images(peek: Peek, column: str) -> int:
    return len({str(row.get(column)) for _, row in peek.rows})


def _mapped(peek: Peek) -> Mapped:
    """Map the columns by their names, and where those do not tell by what stands in them."""
    cells = {name: [row.get(name) for _, row in peek.rows] for name in peek.columns}
    named = map_columns(peek.columns)
    missing = {*OURS} - named.columns.keys()
    guessed = guess_columns({name: cells[name] for name in named.left}, missing)
    answers = [
        written_list(cell)
        for cell in cells.get({**guessed, **named.columns}.get("response", ""), [])
    ]
    return map_columns(peek.columns, guessed=guessed, answers=answers)


def _images(path: Path, mapped: Mapped, rows: Sequence[tuple[int, dict[str, Any]]]) -> str:
    """Say how many of the first images are there; none is opened."""
    column = mapped.columns["image"]
    cells = ((number, row.get(column)) for number, row in rows[:NUM_LOOKED_AT])
    try:
        places = [(number, name) for number, cell in cells if cell for name in names_in(cell, "")]
        images = find_images(places, path, Source(faults=[]), "")
    except ValueError as error:
        return str(error)
    missing = [image for image in images.values() if isinstance(image, UnusableImage)]
    lacking = f"; {missing[0].name} {missing[0].reason}" if missing else ""
    return f"{len(images) - len(missing)} of the first {len(images)} are there{lacking}"
