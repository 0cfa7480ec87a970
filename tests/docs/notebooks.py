"""The notebooks of the project, and how they are run: `make notebooks` stores what they print."""

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.helpers import REPOSITORY

NOTEBOOKS = (
    *sorted((REPOSITORY / "notebooks").glob("*.ipynb")),
    REPOSITORY / "docs" / "frames_chat" / "frames_chat.ipynb",
)


def read(path: Path) -> Any:
    """The content of a notebook, as its format has it."""
    return nbformat.read(path, as_version=4)


def run_cells(notebook: Any, folder: Path) -> None:
    """Run the cells from a folder, and keep what they print; the first error is raised."""
    NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def main() -> None:
    """Store the outputs of all."""
    for path in NOTEBOOKS:
        notebook = read(path)
        run_cells(notebook, path.parent)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
