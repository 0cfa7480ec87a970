"""The example files of the grid and of the pipeline, wherever the project is installed."""

from pathlib import Path

from common.files import write_chunks

_INSTALLED = Path(__file__).parent / "configs"
EXAMPLES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "configs"


def write_examples(folder: Path) -> list[Path]:
    """Copy the example files into a folder.

    Returns:
        The files, as they are there.

    Raises:
        ValueError: one of them is there already and reads otherwise; none is written then.
    """
    copies = {
        folder / path.relative_to(EXAMPLES): path for path in sorted(EXAMPLES.rglob("*.yaml"))
    }
    for copy, path in copies.items():
        if copy.exists() and not (copy.is_file() and copy.read_bytes() == path.read_bytes()):
            raise ValueError(f"{copy} is there and is another file; name another folder.")
    for copy, path in copies.items():
        write_chunks(copy, [path.read_bytes()])
    return list(copies)
