"""The nearest path to one that is not there, and the sentences that name it."""

import os
import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

_LEAST_RATIO = 0.7  # difflib's; a letter more, less or elsewhere in a name of five has 0.8


def near_path(path: str | Path, *, same_numbers: bool = False) -> Path | None:
    """Return the path that is there and whose names are nearest; None where nothing is near.

    Args:
        path: what is not there; each of its folders may be misspelt too.
        same_numbers: take no name with other numbers, which is another one of a series.
    """
    wanted = Path(os.path.expanduser(path))  # which leaves an unknown ~name as it is
    place = Path(wanted.anchor)
    for part in wanted.relative_to(place).parts:
        if not os.path.exists(place / part):
            near = _nearest(part, _names_in(place), same_numbers)
            if near is None:
                return None
            part = near
        place /= part
    return None if place == wanted else place


def did_you_mean(path: str | Path, otherwise: str = "") -> str:
    """Return how a sentence on a path that is not there ends: with the near one, or otherwise.

    Args:
        path: what is not there.
        otherwise: what to do where nothing is near; nothing may be said then.
    """
    near = near_path(path)
    if near is not None:
        return f"; did you mean {near}?"
    return f"; {otherwise}." if otherwise else "."


def misspelt_path(path: str | Path) -> str | None:
    """Return the sentence on a path that is not there and has a near one; None without one."""
    near = near_path(path)
    return f"{path} does not exist; did you mean {near}?" if near else None


def cannot_be_read(path: str | Path, error: OSError) -> str:
    """Return the sentence on a file or folder that the system would not open."""
    if isinstance(error, FileNotFoundError) and (misspelt := misspelt_path(path)):
        return misspelt
    return f"{path} cannot be read: {error.strerror}."


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # no folder, or not one to be looked into
        return []


def _nearest(name: str, present: Iterable[str], same_numbers: bool) -> str | None:
    """The name most like another: of those with the same numbers, if there are any."""
    best, found = (False, 0.0), None
    for other in present:
        has_same_numbers = _numbers(other) == _numbers(name)
        if other.startswith(".") > name.startswith(".") or same_numbers > has_same_numbers:
            continue
        a, b = name.casefold(), other.casefold()
        if os.path.splitext(a)[1] == os.path.splitext(b)[1]:  # an ending alone makes none alike
            a, b = os.path.splitext(a)[0], os.path.splitext(b)[0]
        matcher = SequenceMatcher(None, a, b, autojunk=False)
        if matcher.real_quick_ratio() < _LEAST_RATIO or matcher.quick_ratio() < _LEAST_RATIO:
            continue  # these are cheap, and a folder may be large
        rank = (has_same_numbers, matcher.ratio())
        if matcher.ratio() >= _LEAST_RATIO and (found is None or rank > best):
            best, found = rank, other
    return found


def _numbers(name: str) -> list[str]:
    return [digits.lstrip("0") for digits in re.findall(r"[0-9]+", name)]
