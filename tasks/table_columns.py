"""The columns of a table by our names, and what is said where one is missing."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path


class MendableError(ValueError):
    """A mistake that an option mends, where there is one, or a change of the file."""

    def __init__(self, fault: str, *, option: str, file: str) -> None:
        super().__init__(f"{fault}; {option}.")
        self.without_options = f"{fault}; {file}."


def find_columns(
    path: Path | str,
    columns: Mapping[str, Sequence[str]],
    present: Sequence[str],
    optional: Collection[str] = (),
) -> dict[str, str]:
    """Map our name of each column to its name in the table.

    Args:
        path: of the table, or what an error calls it.
        columns: our name -> its names in known tables, the first that is there counts.
        present: the table's columns.
        optional: our names of those that need not be there.

    Raises:
        MendableError: a column is missing; names the nearest ones.
        ValueError: a column is there twice.
    """
    found = {}
    for name, candidates in columns.items():
        column = next((column for column in candidates if column in present), None)
        if column is None:
            if name in optional:
                continue
            raise _missing(path, name, candidates, present)
        if present.count(column) > 1:
            raise ValueError(f"{path} has the column '{column}' twice; name each column once.")
        found[name] = column
    return found


def _missing(
    path: Path | str, name: str, candidates: Sequence[str], present: Sequence[str]
) -> MendableError:
    near = [n for c in candidates for n in get_close_matches(c, present, n=2)]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    question = ", or pass --question to ask the same of every image"
    return MendableError(
        f"{path} has no column '{' or '.join(candidates)}'{hint}, its columns are "
        f"{', '.join(present) or 'none'}",
        option=f"say which one is meant by --{name.partition(' ')[0]}_column"
        f"{question if name == 'instruction' else ''}",
        file="name it so in the header",
    )
