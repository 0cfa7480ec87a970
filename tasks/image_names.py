"""Images by the names that records of answers have for them."""

from collections.abc import Sequence


def are_other_files(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return True where images are other files, or another number of them, by their base names.

    Folders do not count, as data may be moved, nor a place inside a table, as one copy of a data
    set may have its images there and another as files; and nothing is said without a name.
    """
    if not names or not others:
        return False
    files = [(_file(name), _file(other)) for name, other in zip(names, others, strict=False)]
    return len(names) != len(others) or any(a != b for a, b in files if a and b)


def _file(name: str) -> str | None:
    """The name of a file without its folder; None of `table.csv, line 3`."""
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, _, suffix = base.rpartition(".")
    return base if stem and suffix.isalnum() else None
