"""The code that the documentation's pages show, and user's code forgotten after each test."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import models.registry
import tasks.registry
from common import user_code
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
    sys.path[:] = path
