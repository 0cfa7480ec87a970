"""The columns of a table by our names, and what is said where one is missing."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

_NUM_SHOWN = 4


class MendableError(ValueError):
    """A mistake that an option mends, where there is one, or a change of the file."""

    def __init__(self, fault: str, *, option: str, file: str) -> None:
        super().__init__(f"{fault}; {option}.")
        self.without_options = f"{fault}; {file}."


class MissingColumnError(MendableError):
    """Columns are missing: their names that were looked for, and what to say of those."""

    def __init__(self, fault: str, missing: Collection[str], *, option: str, file: str) -> None:
        super().__init__(fault, option=option, file=file)
        self.fault, self.missing = fault, missing


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
        MissingColumnError: a column is missing; names the nearest ones.
        ValueError: a column is there twice.
    """
    found, missing = {}, {}
    for name, candidates in columns.items():
        column = next((column for column in candidates if column in present), None)
        if column is None:
            if name not in optional:
                missing[name] = candidates
            continue
        if present.count(column) > 1:
            raise ValueError(f"{path} has the column '{column}' twice; name each column once.")
        found[name] = column
    if missing:
        raise _missing(path, missing, present)
    return found


def _missing(
    path: Path | str, missing: Mapping[str, Sequence[str]], present: Sequence[str]
) -> MissingColumnError:
    lacking = " and no column ".join(map(looked_for, missing.values()))
    candidates = [name for names in missing.values() for name in names]
    cutoff = 0.6 if len(candidates) == 1 else 0.7  # one that the user names is more than a guess
    near = [n for c in candidates for n in get_close_matches(c, present, n=2, cutoff=cutoff)]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    options = " and ".join(f"--{name.partition(' ')[0]}_column" for name in missing)
    which = "which one is" if len(missing) == 1 else "which ones are"
    question = ", or pass --question to ask the same of every image"
    return MissingColumnError(
        f"{path} has no column {lacking}{hint}, its columns are {', '.join(present) or 'none'}",
        [*missing],
        option=f"say {which} meant by {options}{question if 'instruction' in missing else ''}",
        file=f"name {'it' if len(missing) == 1 else 'them'} so in the header",
    )


def looked_for(names: Sequence[str]) -> str:
    """Return the first of the names that a column may have, for errors."""
    shown = [f"'{name}'" for name in names[:_NUM_SHOWN]]
    return " or ".join(shown) + (" or the like" if len(names) > _NUM_SHOWN else "")
