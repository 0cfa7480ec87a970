"""Entry points: code that installed packages offer under a name, found when it is asked for."""

from collections.abc import Collection
from functools import cache
from logging import getLogger
from typing import TYPE_CHECKING, Any

from common.user_code import find_classes, load_code

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

logger = getLogger(__name__)


@cache
def entry_points(group: str, taken: Collection[str]) -> dict[str, "EntryPoint"]:
    """Return the entry points of a group by name.

    Args:
        group: such as `palitune.tasks`.
        taken: names that are ours, and stay so; hashable.
    """
    from importlib import metadata  # 50 ms that `--help` need not wait for

    found: dict[str, EntryPoint] = {}
    for entry in metadata.entry_points(group=group):
        if entry.name in taken or entry.name in found:
            whose = "PaliTune's own" if entry.name in taken else shown(found[entry.name])
            logger.warning("%s is not used: %s has that name.", shown(entry), whose)
        else:
            found[entry.name] = entry
    return found


def shown(entry: "EntryPoint") -> str:
    """Return an entry point as sentences name it."""
    package = "" if entry.dist is None else f" of the package {entry.dist.name}"
    return f"The entry point {entry.group} {entry.name}{package}"


def load_entry_point(entry: "EntryPoint", base: type[Any]) -> list[type[Any]]:
    """Load what an entry point names: a module, or one class of it.

    Raises:
        ValueError: it cannot be loaded, or there is no such class; names the package.
    """
    code = load_code(entry.module, shown(entry))
    kinds = find_classes(code, base, shown(entry))
    if not entry.attr:
        return kinds
    named = [kind for kind in kinds if kind.__qualname__ == entry.attr]
    if not named:
        raise ValueError(
            f"{shown(entry)} names {entry.attr} of {code.path}, which is no {base.__name__} there."
        )
    return named
