"""The code that the documentation's pages show, and user's code forgotten after each test."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import models.registry
import tasks.registry
from common import user_code
from common.installed_code import entry_points
from tests.helpers import REPOSITORY

_BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> dict[str, str]:
    """The files that a page shows: those whose first line is a comment with their name."""
    return dict(_BLOCK.findall(page.read_text(encoding="utf-8")))


def write_blocks(page: str | Path, folder: Path) -> list[Path]:
    """Write the files of a page of the documentation, as a user copies them."""
    found = blocks(REPOSITORY / "docs" / page)
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in found]


def install(folder: Path, package: str, group: str, entries: dict[str, str]) -> None:
    """Put into a folder what an installed package has there beside its code."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    entry_points.cache_clear()


@contextmanager
def forgetting_own_code() -> Iterator[None]:
    """What is loaded of a user's code inside the block is unknown behind it."""
    path = list(sys.path)
    yield
    for code in user_code._LOADED.values():
        sys.modules.pop(code.module.__name__, None)
    user_code._LOADED.clear()
    tasks.registry._added.clear()
    models.registry._added.clear()
    models.registry._broken.clear()
    entry_points.cache_clear()
    sys.path[:] = path
