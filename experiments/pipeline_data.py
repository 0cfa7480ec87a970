"""The first step of the pipeline: a data set of any origin as train, validation and test."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from common.hub import hub_is_reachable
from common.json_files import read_json, write_json
from common.near_paths import did_you_mean
from experiments.pipeline_config import Columns
from merging.algebra.staging import atomic_folder
from tasks.cells import text_cell

RECORD = "dataset.json"
SOURCE = "source.json"  # beside the record, which says the same of the same content anywhere
_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_SHARE = 0.1
_BATCH = 32  # rows with their images that are held at a time


def write_dataset(
    folder: Path, name: str, config: str | None, columns: Columns, seed: int
) -> dict[str, Any]:
    """Save a data set's three parts, images included; the folder appears whole or not at all.

    A part that is missing is drawn from train: a tenth of it, such that no image is in two parts.

    Args:
        folder: the new one.
        name: a Hub id; or a folder that `datasets` saved, or with parquet files, or with images
            and a metadata file.
        config: of a Hub repository.
        columns: that must be there.
        seed: of the draw.

    Returns:
        What the record beside the parts says: sizes, which of them were drawn, which parts of the
        data set were left out, a digest of each part's content, columns.

    Raises:
        ValueError: the data set cannot be read, has no train part, too few images to draw from,
            not these columns, or a row without an image.
    """
    import datasets

    files = _digest(name)  # before they are read, so that a change on the way tells
    found = _load(name, config)
    parts = _known_parts(found, name)
    for part, table in parts.items():
        _check_columns(table, columns, f"{name} ({part})")
        parts[part] = _with_texts(table, columns, f"{name} ({part})")
    drawn = [part for part in ("test", "validation") if part not in parts]
    if drawn:
        parts |= _draw(parts["train"], columns.image, drawn, seed, name)
    parts = {part: parts[part] for part in _NAMES}
    record = {
        "sizes": {part: len(table) for part, table in parts.items()},
        "drawn_from_train": drawn,
        "left_out": [part for part in found if not _canonical(part)],
        "sha256": {
            part: _content_hash(table, columns.image, f"{name} ({part})")
            for part, table in parts.items()
        },
        "columns": {column: repr(kind) for column, kind in parts["train"].features.items()},
    }
    made_with = {"dataset": name, "dataset_config": config, "seed": seed}
    with atomic_folder(folder) as unfinished:
        datasets.DatasetDict(parts).save_to_disk(str(unfinished))
        write_json(unfinished / SOURCE, {"files": files})
        write_json(unfinished / RECORD, {"made_with": made_with, **record}, ensure_ascii=False)
    return record


def check_source(folder: Path, name: str) -> None:
    """Refuse the copy of a data set whose folder has changed since; one that is gone may be.

    Args:
        folder: of the copy, which need not be there yet.
        name: of the data set.

    Raises:
        ValueError: files were added, removed, or written again.
    """
    record = folder / SOURCE
    before = read_json(record)["files"] if record.is_file() else None
    if None not in (before, now := _digest(name)) and before != now:
        raise ValueError(
            f"{folder}: download-dataset was done with other files than {name} holds now; remove "
            f"{folder} to do it anew, or give another --root."
        )


def _digest(name: str) -> str | None:
    """Of the names, sizes and times of a folder's files; None of what is no folder."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return None
    # the content of a large folder would take minutes at each start
    files = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    entries = [(path.relative_to(folder).as_posix(), s.st_size, s.st_mtime_ns) for path, s in files]
    return hashlib.sha256(ascii(entries).encode()).hexdigest()


def _load(name: str, config: str | None) -> dict[str, Any]:
    import datasets

    folder = Path(name).expanduser()
    if not folder.is_dir() and (name.count("/") > 1 or name.startswith((".", "~"))):
        raise ValueError(f"The data set {name} is no folder{did_you_mean(name, 'check the path')}")
    if not folder.is_dir() and not hub_is_reachable():
        how = "check the path, or set HF_HUB_OFFLINE=1 if it is in the cache"
        raise ValueError(
            f"The data set {name} is no folder here, and the Hub cannot be reached"
            f"{did_you_mean(name, how)}"
        )
    try:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(str(folder) if folder.is_dir() else name, config)  # nosec B615
    except (datasets.exceptions.DatasetsError, IndexError, OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The data set {name} cannot be read: {first_line}; give a folder of parquet files, of "
            "images with a metadata file or that `datasets` saved, or a Hub id, with HF_TOKEN "
            "where it asks for a login."
        ) from error
    return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def _canonical(name: str) -> str | None:
    return next((part for part, names in _NAMES.items() if name.lower() in names), None)


def _known_parts(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for own_name, table in found.items():
        part = _canonical(own_name)
        if part in parts:
            raise ValueError(f"{name} has {part} twice, among {', '.join(found)}; leave one out.")
        if part is not None:
            parts[part] = table
    if "train" not in parts:
        raise ValueError(
            f"{name} has no part to train on: it has {', '.join(found)}; save one as 'train'."
        )
    return parts


def _check_columns(table: Any, columns: Columns, where: str) -> None:
    import datasets

    for role in ("image", "question", "answer"):
        column = getattr(columns, role)
        if column not in table.column_names:
            raise ValueError(
                f"{where} has no column '{column}' for the {role}, its columns are "
                f"{', '.join(table.column_names)}; name it under dataset_columns of "
                "--vlm_collator_config."
            )
    if not isinstance(table.features[columns.image], datasets.Image):
        raise ValueError(
            f"{where}: column '{columns.image}' holds {table.features[columns.image]}, not "
            "images; cast it to datasets.Image, or name another one under dataset_columns."
        )


def _with_texts(table: Any, columns: Columns, where: str) -> Any:
    """The table with numbers that are asked or answered written out, as in tables of other kinds.

    Raises:
        ValueError: one of these columns holds neither texts nor numbers, or a cell is empty.
    """
    import datasets

    for column, lists in ((columns.question, False), (columns.answer, True)):
        kind = table.features[column]
        entry = getattr(kind, "feature", kind) if lists else kind
        dtype = entry.dtype if isinstance(entry, datasets.Value) else ""
        if "string" in dtype:
            continue
        if not dtype.startswith(("int", "uint", "float", "bool")):
            raise ValueError(
                f"{where}: column '{column}' holds {kind}, not texts or numbers; write them out, "
                "or name another one under dataset_columns."
            )
        texts = [
            _written_out(cell, f"{where}, row {index}, column '{column}'")
            for index, cell in enumerate(table.with_format(None)[column])
        ]
        text = datasets.Value("string")
        feature = text if entry is kind else datasets.List(text)
        table = table.remove_columns(column).add_column(column, texts, feature=feature)
    return table


def _written_out(cell: Any, where: str) -> str | list[str]:
    if isinstance(cell, list):
        return [text_cell(entry, where) for entry in cell]
    return text_cell(cell, where)


def _draw(train: Any, column: str, wanted: Sequence[str], seed: int, name: str) -> dict[str, Any]:
    """Return the wanted parts and what is left of train."""
    images = _rows_by_image(train, column, f"{name} (train)")
    if len(images) <= len(wanted):
        raise ValueError(
            f"{name} has {len(images)} image(s) to train on, too few to draw "
            f"{' and '.join(wanted)} from; add those parts."
        )
    Random(seed).shuffle(images)
    size = max(1, round(_SHARE * len(train)))
    rows: dict[str, list[int]] = {}
    for done, part in enumerate(wanted, start=1):
        rows[part] = images.pop()
        # each part that follows, and train, needs an image
        while len(rows[part]) < size and len(images) > len(wanted) - done + 1:
            rows[part] = rows[part] + images.pop()
    rows["train"] = [row for group in images for row in group]
    return {part: train.select(sorted(chosen)) for part, chosen in rows.items()}


def _rows_by_image(table: Any, column: str, where: str) -> list[list[int]]:
    """Return the numbers of the rows that show the same image, by its bytes."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, (image, _) in enumerate(_rows(table.select_columns([column]), column, where)):
        groups[image].append(index)
    return list(groups.values())


def _content_hash(table: Any, column: str, where: str) -> str:
    """Of the images and the other cells of all rows, in order."""
    digest = hashlib.sha256()
    for image, cells in _rows(table, column, where):
        digest.update(image + ascii(cells).encode() + b"\n")
    return digest.hexdigest()


def _rows(table: Any, column: str, where: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """A digest of each row's image, as it is stored, and the other cells.

    Raises:
        ValueError: a row has no image, or its file cannot be read.
    """
    batches = table.with_format("arrow").iter(_BATCH)
    for index, cells in enumerate(cells for batch in batches for cells in batch.to_pylist()):
        cell = cells.pop(column) or {}
        content, path = cell.get("bytes"), cell.get("path") or ""
        if not content and not path:
            raise ValueError(
                f"{where}, row {index} has no image in column '{column}'; give it one, or leave "
                "the row out."
            )
        try:
            content = content or Path(path).read_bytes()
        except OSError as error:
            raise ValueError(
                f"{where}, row {index}: the image {path} cannot be read: {error.strerror}; put "
                "it there, or leave the row out."
            ) from error
        yield hashlib.sha256(content).digest(), cells
