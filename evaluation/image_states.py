"""Signs that tell images from others unopened: the names, sizes and times of their files."""

import hashlib
import os
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import msgspec

from tasks.base import Example, ImageRef
from tasks.images import BytesImage, DatasetImage, FileImage
from tasks.webdataset import TarImage

Stats = list[tuple[int, int] | None]  # bytes and nanoseconds; None of a file that is not there


class ImageStates:
    """The states of images; each file is asked for once, and none is read."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Stats] = {}

    def content(self, image: ImageRef) -> list[Any]:
        """Return what stays where an image's folder is moved or copied: name and sizes in bytes."""
        name, stats = self._find(image)
        return [_encoded(name), [None if stat is None else stat[0] for stat in stats]]

    def files(self, image: ImageRef) -> list[Any]:
        """Return what changes with each writing of an image: place, name, sizes and times."""
        name, stats = self._find(image)
        return [_encoded(image.name), _encoded(name), stats]

    def _find(self, image: ImageRef) -> tuple[str, Stats]:
        match image:
            case FileImage(path):
                return os.path.basename(path), self._stats(path, [path])
            case TarImage(path, member):
                return member, self._stats(path, [path])
            case DatasetImage(table):
                key = id(table)
                files = [] if key in self._known else [f["filename"] for f in table.cache_files]
                return f"{image.index}, {image.place}", self._stats(key, files)
            case BytesImage(content):
                return hashlib.sha256(content).hexdigest(), []
        return os.path.basename(image.name), []

    def _stats(self, key: Hashable, files: Sequence[str]) -> Stats:
        if key not in self._known:
            self._known[key] = [_stat(file) for file in files]
        return self._known[key]


def files_hash(examples: Iterable[Example]) -> str:
    """Return a hash over `ImageStates.files` of all images: 16 hexadecimal digits."""
    states, digest = ImageStates(), hashlib.sha256()
    for example in examples:
        digest.update(msgspec.json.encode([states.files(image) for image in example.images]))
    return digest.hexdigest()[:16]


def _encoded(name: str) -> bytes:
    return name.encode(errors="surrogatepass")  # a file's name need not be Unicode


def _stat(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:  # answers in a file are scored without images
        return None
    return found.st_size, found.st_mtime_ns
