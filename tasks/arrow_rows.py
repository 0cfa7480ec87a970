"""Rows of Arrow tables as Python has them, short floats as they are written."""

from typing import Any


def python_rows(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of a batch; a float of 32 bits that is written 0.1 is 0.1.

    Python's floats have 64 bits, in which the nearest number to it is 0.10000000149011612: no text
    that anyone wrote, and none to be learned or scored.

    Args:
        batch: a `pyarrow.RecordBatch` or `pyarrow.Table`.
    """
    rows: list[dict[str, Any]] = batch.to_pylist()
    for field in batch.schema:
        if _has_short_floats(field.type):
            for row in rows:
                row[field.name] = _as_written(row[field.name], field.type)
    return rows


def _has_short_floats(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(_has_short_floats(kind.field(place).type) for place in range(kind.num_fields))
    if hasattr(kind, "value_type"):
        return _has_short_floats(kind.value_type)
    return bool(types.is_float32(kind) or types.is_float16(kind))


def _as_written(cell: Any, kind: Any) -> Any:
    import numpy
    from pyarrow import types

    if isinstance(cell, list):
        return [_as_written(entry, kind.value_type) for entry in cell]
    if isinstance(cell, dict):
        return {name: _as_written(entry, kind.field(name).type) for name, entry in cell.items()}
    if isinstance(cell, float) and _has_short_floats(kind):
        return float(str(numpy.float32(cell) if types.is_float32(kind) else numpy.float16(cell)))
    return cell
