"""Files on disk: find the official ones in any layout, decode them, write ours whole."""

import fnmatch
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from common.near_paths import cannot_be_read, did_you_mean
from tasks.base import MissingSplit, Source
from tasks.checks import name_some
from tasks.images import FileImage

T = TypeVar("T")
_LARGE = 10 << 20  # bytes that take a moment to read
_NUM_PROBES = 20  # one absent image must not hide the folder in which all others lie

logger = logging.getLogger(__name__)


def local_root(source: Source) -> Path:
    """Return the folder of the official files.

    Raises:
        ValueError: it does not exist, is no folder or may not be read.
    """
    root = source.data_root
    assert root is not None, "without data_root the Hub copy is read"
    _list_folder(root, must_exist=True)
    return root


def find_files(root: Path, patterns: Sequence[str], wanted: str) -> list[Path]:
    """Find the files, sorted, that match the first of `patterns` with any match.

    Args:
        root: what the patterns are relative to.
        patterns: `folder/name`, where the name may hold wildcards; the preferred one first.
        wanted: what is looked for, e.g. "vqav2 split 'val'".

    Raises:
        MissingSplit: nothing matches; lists every place looked at.
    """
    for pattern in patterns:
        folder, _, name = pattern.rpartition("/")
        names = fnmatch.filter(_list_folder(root / folder), name)
        if names:
            return [root / folder / name for name in sorted(names)]
    raise MissingSplit(
        f"No files of {wanted} under {root}: looked for {', '.join(patterns)}; "
        "--data_root must be the folder that holds them."
    )


def decode(path: Path, type_: type[T], hook: Callable[[type, Any], Any] | None = None) -> T:
    """Read a JSON file as `type_`; ids given as strings of digits become numbers.

    Args:
        path: of the file.
        type_: what it must hold.
        hook: makes values of types that msgspec does not know.

    Raises:
        ValueError: unreadable, not JSON, or not of this form; names the file and the place.
    """
    content = read_bytes(path)
    try:
        return msgspec.json.decode(content, type=type_, strict=False, dec_hook=hook)
    except RecursionError as error:
        raise ValueError(
            f"{path} is nested too deeply to be read; unpack or download it again."
        ) from error
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not in the official format: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not complete JSON ({error}); unpack or download it again."
        ) from error


def read_bytes(path: Path, *, keep_mark: bool = False) -> bytes:
    """Read the content of a file, without the byte order mark that some editors leave.

    Args:
        path: of the file.
        keep_mark: keep the mark, which says that the file is UTF-8.

    Raises:
        ValueError: unreadable.
    """
    try:
        if (size := path.stat().st_size) >= _LARGE:
            logger.info("reading %s (%d MB)", path, size >> 20)
        content = path.read_bytes()
        return content if keep_mark else content.removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ValueError(cannot_be_read(path, error)) from error


def image_finder(
    source: Source, folders: Sequence[str], names: Iterable[str]
) -> Callable[[str], FileImage]:
    """Find the folder of a split's images once; then a name gives its image without a look.

    Args:
        source: its data_root is what `folders` are relative to.
        folders: where the images may lie, the preferred one first.
        names: file names of the split; the first few are tried.

    Raises:
        ValueError: none of them is in any of the folders.
    """
    if not source.with_images:
        return cache(FileImage)
    root = local_root(source)
    probes = list(islice(dict.fromkeys(names), _NUM_PROBES))
    places = [os.path.normpath(root / folder) for folder in folders]
    for place in places:
        if any(os.path.isfile(os.path.join(place, name)) for name in probes):
            break
    else:
        raise ValueError(
            f"No images: {name_some(probes)} are in none of {', '.join(places)}; put the images "
            "that the annotations list into one of these folders."
        )

    @cache  # one object for all questions about an image
    def image(name: str) -> FileImage:
        return FileImage(f"{place}/{name}")

    return image


def _list_folder(folder: Path, must_exist: bool = False) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            advice = "give the folder with the official files"
            why = f"does not exist{did_you_mean(folder, advice)}"
            if folder.exists():
                why = f"is not a folder; {advice}."
            raise ValueError(f"--data_root {folder} {why}") from error
        return []
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}.") from error
