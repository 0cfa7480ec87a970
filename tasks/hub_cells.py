"""The cells of a `datasets` table: which hold nothing, and what others mean."""

from typing import Any


def empty_places(images: Any) -> list[int]:
    """Return the places of an Arrow array of images that hold nothing."""
    import pyarrow.compute as pc

    empty = pc.is_null(images)
    if hasattr(images.type, "names"):  # bytes and path, of which one is enough
        parts = [pc.is_null(pc.struct_field(images, name)) for name in images.type.names]
        for part in parts[1:]:
            parts[0] = pc.and_(parts[0], part)
        empty = pc.or_(empty, parts[0])
    return [place for place, is_empty in enumerate(empty.to_pylist()) if is_empty]


def class_names(feature: Any) -> list[str] | None:
    """Return the names of a column of classes, or of lists of them."""
    feature = getattr(feature, "feature", feature)
    return getattr(feature, "names", None)


def named(cell: Any, names: list[str] | None) -> Any:
    """Return the names of classes in the place of their numbers."""
    if names is None or cell is None:
        return cell
    if isinstance(cell, list):
        return [named(entry, names) for entry in cell]
    return names[cell] if cell >= 0 else None  # -1 stands for a class that is not given


def inside(cell: Any, column: str, top: str) -> Any:
    """Return what a name such as `query.en` means of the cell of its column."""
    for key in column.removeprefix(top).split(".")[1:]:
        cell = cell.get(key) if isinstance(cell, dict) else None
    return cell
