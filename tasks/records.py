"""The records of annotation files: read at once, or one by one where faults are to be listed."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import msgspec

from tasks.base import Source
from tasks.checks import check_ids
from tasks.faults import Fault
from tasks.files import decode

T = TypeVar("T")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Key(str):
    """A key of a JSON object; a type of its own, so that each occurrence is seen."""


def read_records(
    path: Path,
    kinds: Mapping[str, type],
    source: Source,
    optional: Mapping[str, Source] | None = None,
) -> dict[str, list[Any]]:
    """Read the lists of records in a JSON file.

    Args:
        path: of the file.
        kinds: the key of each list -> the struct of its records, whose first field is the id.
        source: takes the faults of single records, if it lists them.
        optional: keys that may be absent -> what takes the faults of their records.

    Raises:
        ValueError: as `decode`; of a single record unless the source lists faults.
    """
    is_whole, optional = source.faults is None, optional or {}
    fields: list[Any] = []
    for key, kind in kinds.items():
        entries = list.__class_getitem__(kind if is_whole else msgspec.Raw)
        fields.append((key, entries, []) if key in optional else (key, entries))
    file = decode(path, msgspec.defstruct("File", fields, kw_only=True))
    if is_whole:
        return {key: getattr(file, key) for key in kinds}
    found: dict[str, list[Any]] = {key: [] for key in kinds}
    for key, kind in kinds.items():
        for number, raw in enumerate(getattr(file, key), start=1):
            try:
                found[key].append(msgspec.json.decode(raw, type=kind, strict=False))
            except UNREADABLE as error:
                reason = f"The record of `{key}` is not in the official format: {error}."
                owner = optional.get(key, source)
                note(owner, _id(raw, kind, number), path, ValueError(reason))
    return found


def _id(raw: msgspec.Raw, kind: Any, number: int) -> int | str:
    """Return the id of a record that cannot be read as a whole, else its place."""
    name = msgspec.structs.fields(kind)[0].encode_name
    try:
        record: Any = msgspec.json.decode(
            raw, type=msgspec.defstruct("Id", [("id", int | str, msgspec.field(name=name))])
        )
    except UNREADABLE:
        return f"record {number}"
    found: int | str = record.id
    return found


def read_keyed(path: Path, source: Source) -> dict[str, msgspec.Raw]:
    """Read a JSON object of records by id, which are not decoded.

    Raises:
        ValueError: as `decode`; or an id is there twice, unless the source lists faults.
    """
    keys: list[str] = []

    def key(_: type, text: Any) -> _Key:
        keys.append(text)
        return _Key(text)

    records = decode(path, dict[_Key, msgspec.Raw], key)
    if len(keys) > len(records) or not records:  # a dict keeps the last of equal keys in silence
        unique((_Named(text) for text in keys), lambda entry: entry.name, path, source)
    return {str(name): record for name, record in records.items()}


class _Named(msgspec.Struct, frozen=True):
    name: str


def unique(
    records: Iterable[T], id_of: Callable[[T], int | str], path: Path, source: Source
) -> list[T]:
    """Return records of which no two have the same id, the first of such.

    Raises:
        ValueError: there is none, or an id comes twice and the source lists no faults.
    """
    found = list(records)
    if source.faults is None or (not found and not source.faults):
        check_ids(map(id_of, found), str(path))
        return found
    first: dict[int | str, T] = {}
    for record in found:
        key = id_of(record)
        if key in first:
            reason = "The id is there more than once; each example needs a different one."
            source.faults.append(Fault(key, str(path), reason))
        else:
            first[key] = record
    return list(first.values())


def note(source: Source, example_id: int | str, path: Path, error: ValueError) -> None:
    """Add the fault of a record to those that the source lists; raise it where it lists none."""
    if source.faults is None:
        raise error
    source.faults.append(Fault(example_id, str(path), str(error)))


def with_inner_images(
    records: Iterable[T],
    name_of: Callable[[T], str],
    id_of: Callable[[T], int | str],
    path: Path,
    source: Source,
) -> list[T]:
    """Return the records whose images lie below the folder of the images.

    Args:
        records: of an annotation file.
        name_of: the path of a record's image.
        id_of: its id.
        path: the file.
        source: takes the faults, if it lists them.

    Raises:
        ValueError: a path leads out and the source lists no faults.
    """
    found = []
    for record in records:
        try:
            check_inner(name_of(record), f"{path}, record {id_of(record)}")
            found.append(record)
        except ValueError as error:
            note(source, id_of(record), path, error)
    return found


def check_inner(name: str, where: str) -> None:
    """Raise ValueError where the path of an image may lead out of the folder of the images.

    The path alone counts. A link in the folder may lead elsewhere, as who put it there chose so.

    Args:
        name: the path, as an annotation has it.
        where: the annotation file and the record.
    """
    parts = name.replace("\\", "/").split("/")
    is_absolute = not parts[0] or PureWindowsPath(name).drive
    if is_absolute or ".." in parts or not name.strip("./") or not _can_be_a_name(parts):
        raise ValueError(
            f"{where} names the image {name[:200]!r}, which is no path below the folder of the "
            "images; correct the annotation, or remove it."
        )


def _can_be_a_name(parts: Sequence[str]) -> bool:
    try:
        return all("\0" not in part and len(os.fsencode(part)) <= 255 for part in parts)
    except UnicodeEncodeError:
        return False
