"""The cache folder, and folders in it that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def cache_dir() -> Path:
    """Return `$PALITUNE_CACHE`, or else `palitune` in the user's cache folder."""
    if chosen := os.environ.get("PALITUNE_CACHE"):
        return Path(chosen).expanduser().absolute()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser().absolute() / "palitune"


def build_once(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill the folder, unless it is there; other processes see it complete or absent.

    Raises:
        ValueError: it cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            # one level deeper, as the temporary folder itself is closed to other users
            built = Path(temporary, folder.name)
            built.mkdir()
            write(built)
            _publish(built, folder)
    except OSError as error:
        raise ValueError(
            f"The sample data cannot be written to {folder} ({error.strerror}); "
            "set PALITUNE_CACHE to a folder that can be written."
        ) from error
    return folder


def _publish(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, with the same bytes
            raise
