"""Files written whole, folders that can be written to, hashes."""

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file such that a reader finds the old one or the whole new one, never a half."""
    write_chunks(path, [text.encode()])


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file as `write_text` does, one piece after the other."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # a rename may outlive a power cut that the content does not
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk itself."""
    if os.name == "nt":  # it writes the names by itself, and syncs what is open for writing alone
        if path.is_dir():
            return
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(path: Path) -> None:
    """Give a file the rights of any new one; safetensors makes its for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def check_writable(folder: Path, option: str = "--output_dir") -> None:
    """Raise ValueError where files could not be made in a folder; it need not exist yet.

    Args:
        folder: to be written to.
        option: that names it, or a file in it.
    """
    places = (folder, *folder.absolute().parents)
    existing = next(place for place in places if os.path.lexists(place))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        other = "is a file" if existing.exists() else "is a link to nothing"
        what = "is read-only" if existing.is_dir() else other
        raise ValueError(
            f"{option} {folder} cannot be written: {existing} {what}; give another one."
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
