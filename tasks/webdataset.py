"""WebDataset: samples in plain tar files, each a few files of one key, as `42.jpg` and `42.json`.

The key of a file is its path up to the first point of its name, as
https://github.com/webdataset/webdataset has it. Nothing is unpacked, and no path that a tar file
holds is ever opened: an image is a place in the tar file.
"""

import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from common.near_paths import cannot_be_read
from tasks.decoding import decode_image, read_dimensions
from tasks.faults import Fault
from tasks.json_objects import with_single_keys
from tasks.tables import note_line

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp")
TEXT_ENDINGS = ("txt", "cls")
_NUMBERED = re.compile(r"(?:[^.]*\D)?(\d+)\.[^.]+")  # of several images: 0.jpg, image_1.png
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
Files = list[tuple[str, tarfile.TarInfo]]  # of one sample, each with its ending


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image in a plain tar file: where its bytes begin there and how many they are."""

    path: str
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Return the tar file and the name in it."""
        return f"{self.path}/{self.member}"

    def open(self) -> Image.Image:
        """Decode the image: RGB or L, its own size."""
        return decode_image(self.content(), self.name)

    def dimensions(self) -> tuple[int, int]:
        """Return width and height, from the image's header."""
        return read_dimensions(BytesIO(self.content()), self.name)

    def content(self) -> bytes:
        """Read the bytes of the image.

        Raises:
            ValueError: the tar file is gone, or ends before them.
        """
        try:
            with open(self.path, "rb") as shard:
                shard.seek(self.offset)
                content = shard.read(self.size)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}.") from error
        if len(content) < self.size:
            raise ValueError(f"{self.path} ends within {self.member}; copy the shard again.")
        return content


@dataclass(frozen=True, slots=True)
class Sample:
    """The files of one key: its number from 1 in the split, its images and its texts."""

    number: int
    where: str
    images: tuple[TarImage, ...]
    cells: dict[str, Any]


def read_samples(
    shards: Sequence[Path], faults: list[Fault] | None, limit: int | None = None
) -> Iterator[Sample]:
    """Read the samples of shards in their order; the fields of `.json` are cells, as texts are.

    Args:
        shards: plain tar files.
        faults: takes the faults of single samples, which are errors where it is None.
        limit: read no more samples than this.

    Raises:
        ValueError: a shard is no tar file or cut off; or of a sample, whose shard and key are
            named: it has no image or several, no text, a file twice, or damaged JSON.
    """
    number = 0
    for shard in shards:
        try:
            files_by_key = _by_key(shard)
        except ValueError as error:
            if faults is None:
                raise
            faults.append(Fault(shard.name, str(shard), str(error)))
            continue
        for key, files in files_by_key.items():
            if number == limit:
                return
            number += 1
            try:
                yield _sample(number, f"{shard}, sample {key}", str(shard), files)
            except ValueError as error:
                note_line(faults, shard, number, error)


def _by_key(shard: Path) -> dict[str, Files]:
    """Group the files of a shard by key and ending; those without a key are counted in the log."""
    found: dict[str, Files] = {}
    left_out: list[str] = []
    for member in _members(shard):
        match = _KEY.fullmatch(member.name)
        if member.isdir():
            continue
        if match is None or member.name.startswith("__"):
            left_out.append(member.name)
            continue
        found.setdefault(match[1], []).append((match[2].lower(), member))
    if left_out:
        logger.warning(
            "%s: %d file(s) that belong to no sample are left out, as %s.",
            *(shard, len(left_out), left_out[0]),
        )
    if not found:
        raise ValueError(f"{shard} holds no sample; its files must be named as 42.jpg, 42.json.")
    return found


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                yield member
            end = tar.offset
        with shard.open("rb") as file:
            file.seek(end)
            behind = file.read(1 << 20)
    except tarfile.TarError as error:
        raise ValueError(
            f"{shard} is no plain tar file, or it is cut off ({error}); copy it again, or unpack "
            "it where it is compressed."
        ) from error
    except OSError as error:
        raise ValueError(cannot_be_read(shard, error)) from error
    if len(behind) < tarfile.BLOCKSIZE or behind.strip(b"\0"):  # a tar file ends in empty blocks
        is_long = len(behind) > tarfile.BLOCKSIZE and behind.strip(b"\0")
        what = "has more behind its end" if is_long else "is cut off: its end is missing"
        raise ValueError(f"{shard} {what}; copy it or write it again.")


def _sample(number: int, where: str, shard: str, files: Files) -> Sample:
    endings = [ending for ending, _ in files]
    if twice := [ending for ending in endings if endings.count(ending) > 1]:
        raise ValueError(f"{where} has its .{twice[0]} twice; give each sample a key of its own.")
    for _, member in files:
        if not member.isreg() or member.issparse():
            raise ValueError(f"{where}: {member.name} is a link; write the file itself.")
    places = {
        ending: TarImage(shard, member.name, member.offset_data, member.size)
        for ending, member in files
    }
    images = {e: p for e, p in places.items() if e.rpartition(".")[2] in IMAGE_ENDINGS}
    numbers = {e: int(match[1]) for e in images if (match := _NUMBERED.fullmatch(e))}
    if not images or (len(images) > 1 and len(set(numbers.values())) < len(images)):
        raise ValueError(
            f"{where} has {len(images) or 'no'} image{'s' if images else ''}, and one is expected "
            f"({', '.join(IMAGE_ENDINGS)}), or several with numbers, as in 42.0.jpg and 42.1.jpg; "
            f"its files end in {', '.join(endings)}."
        )
    in_order = sorted(images, key=lambda ending: numbers.get(ending, 0))
    cells: dict[str, Any] = {}
    for ending in (*TEXT_ENDINGS, "json"):
        if ending in places:
            cells |= _cells(ending, places[ending], where)
    if not cells:
        raise ValueError(
            f"{where} has no text beside its image (json, txt, cls); its files end in "
            f"{', '.join(endings)}."
        )
    return Sample(number, where, tuple(images[ending] for ending in in_order), cells)


def _cells(ending: str, place: TarImage, where: str) -> dict[str, Any]:
    """Return the fields of a JSON object, or a text under its ending."""
    content = place.content()
    try:
        if ending == "json":
            found = msgspec.json.decode(content, type=dict[str, Any])
            return with_single_keys(found, content, f"{where}: {place.member}")
        return {ending: content.decode().removeprefix("\ufeff")}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "a JSON object" if ending == "json" else "UTF-8"
        raise ValueError(f"{where}: {place.member} is not {what} ({error}); mend it.") from error
