"""Tables of plain text for a terminal."""

from collections.abc import Collection, Sequence
from itertools import zip_longest


def align(
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    widths: Sequence[int] = (),
    indent: int = 0,
) -> str:
    """Put cells below each other, in columns as wide as their longest cell.

    Args:
        rows: cells of text, equally many in each row.
        left: columns whose cells stand at the left; those of the others stand at the right.
        widths: least width of the first columns, in characters.
        indent: spaces before each row.
    """
    needed = [max(map(len, column)) for column in zip(*rows, strict=True)]
    columns = [max(pair) for pair in zip_longest(needed, widths[: len(needed)], fillvalue=0)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, columns, strict=True))
        ]
        lines.append(" " * indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


def size_of(num_bytes: float) -> str:
    """Return a number of bytes as text, in MiB or, from one on, in GiB."""
    if num_bytes < 2**30:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / 2**30:.2f} GiB"
