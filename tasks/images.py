"""Images that are not read before they are opened, and the check that none is missing."""

import io
import os
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from os.path import isfile
from typing import Any, NoReturn

from PIL import Image

from tasks.base import Dataset
from tasks.checks import check_ids, check_references, name_some
from tasks.decoding import decode_image, read_dimensions


@dataclass(frozen=True, slots=True)
class FileImage:
    """An image in a file."""

    path: str

    @property
    def name(self) -> str:
        """Return the path."""
        return self.path

    def open(self) -> Image.Image:
        """Decode the file: RGB or L, its own size."""
        return decode_image(self._content(), self.path)

    def dimensions(self) -> tuple[int, int]:
        """Return width and height, from the file's header alone."""
        try:
            with open(self.path, "rb") as file:
                return read_dimensions(file, self.path)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}.") from error

    def _content(self) -> bytes:
        try:
            # a FIFO or a device would block or never end
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ValueError(f"{self.path} is not a regular file, so not an image.")
            with open(self.path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(
                f"{self.path} does not exist; put the image there, or remove what asks about it."
            ) from error
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True, slots=True, eq=False)
class DatasetImage:
    """An image in a cell of a `datasets` table whose image column is not decoded.

    Attributes:
        table: with that column; in Arrow's format where cells are lists.
        column: its name.
        table_name: what errors call the table.
        index: of the row.
        place: of the image in its cell, where cells are lists.
    """

    table: Any
    column: str
    table_name: str
    index: int
    place: int | None = None

    @property
    def name(self) -> str:
        """Return the table and row."""
        which = "" if self.place is None else f", image {self.place + 1}"
        return f"{self.table_name}, row {self.index}{which}"

    def open(self) -> Image.Image:
        """Decode the cell: RGB or L, its own size."""
        cell = self._cell()
        return FileImage(cell).open() if isinstance(cell, str) else decode_image(cell, self.name)

    def dimensions(self) -> tuple[int, int]:
        """Return width and height, from the cell's header alone."""
        cell = self._cell()
        if isinstance(cell, str):
            return FileImage(cell).dimensions()
        return read_dimensions(io.BytesIO(cell), self.name)

    def _cell(self) -> str | bytes:
        """Return the path or the content of the image."""
        cell = self.table[self.index][self.column]
        if self.place is not None:
            cell = cell[0][self.place].as_py()
        if isinstance(cell, dict):  # the storage of datasets.Image
            cell = cell.get("bytes") or cell.get("path")
        if not isinstance(cell, str | bytes):
            raise ValueError(f"{self.name} has no image in column '{self.column}'.")
        return cell


@dataclass(frozen=True, slots=True)
class BytesImage:
    """The content of an image file."""

    content: bytes = field(repr=False)
    name: str = field(compare=False)

    def open(self) -> Image.Image:
        """Decode the content: RGB or L, its own size."""
        return decode_image(self.content, self.name)

    def dimensions(self) -> tuple[int, int]:
        """Return width and height, from the header alone."""
        return read_dimensions(io.BytesIO(self.content), self.name)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """An image as an array: (height, width) grey or (height, width, 3) RGB, 0 to 255."""

    pixels: Any
    name: str
    size: tuple[int, int] | None = None  # scaled to this (width, height), bicubic

    def open(self) -> Image.Image:
        """Make the image: RGB."""
        image = Image.fromarray(self.pixels).convert("RGB")
        return image.resize(self.size, Image.Resampling.BICUBIC) if self.size else image

    def dimensions(self) -> tuple[int, int]:
        """Return width and height."""
        height, width = self.pixels.shape[:2]
        return self.size or (int(width), int(height))


@dataclass(frozen=True, slots=True)
class UnusableImage:
    """A stand-in for the image of a record that cannot be shown as it is meant.

    Attributes:
        name: of the record.
        reason: goes on from the name, and ends the sentence.
    """

    name: str
    reason: str

    def open(self) -> NoReturn:
        """Raise ValueError with the reason."""
        raise ValueError(f"{self.name} {self.reason}")

    def dimensions(self) -> NoReturn:
        """Raise ValueError with the reason."""
        self.open()


def missing_images(dataset: Dataset) -> list[str]:
    """Find the image files that do not exist; lists each folder once, decodes nothing."""
    names_by_folder = defaultdict(set)
    for image in (image for example in dataset for image in example.images):
        if isinstance(image, FileImage):
            folder, name = os.path.split(image.path)
            names_by_folder[folder].add(name)
    return sorted(
        os.path.join(folder, name)
        for folder, names in names_by_folder.items()
        for name in names - _file_names(folder)
    )


def check_dataset(dataset: Dataset) -> None:
    """Check before any work that a split has examples, unique ids, answers and image files.

    Raises:
        ValueError: names up to five of what is wrong, and the count.
    """
    where = f"{dataset.task.name} split '{dataset.split}'"
    check_ids((example.example_id for example in dataset), where)
    check_references(dataset.task, dataset.split, dataset)
    unusable = [e.image for e in dataset if isinstance(e.image, UnusableImage)]
    if unusable:
        places = name_some([image.name.rpartition(", ")[2] for image in unusable])
        raise ValueError(
            f"{where} has {len(unusable)} of {len(dataset)} examples without an image "
            f"({places}); {unusable[0].name} {unusable[0].reason} Leave them out of the file, or "
            "pass --on_bad_image skip."
        )
    if missing := missing_images(dataset):
        raise ValueError(
            f"{where} lists {len(missing)} image(s) that do not exist: {name_some(missing)}; "
            "unpack the images again."
        )


def _file_names(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:  # of a bare name there is none
            # of an entry that is no link this asks nothing; a link may be broken or run in circles
            return {e.name for e in entries if e.is_file(follow_symlinks=False) or isfile(e.path)}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}.") from error
