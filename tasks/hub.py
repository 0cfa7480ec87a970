"""Hub copies through `datasets`: parquet on the Hub or in a folder, or saved to disk."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import isdir
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tasks.arrow_rows import python_rows
from tasks.base import ImageRef, MissingSplit, Source
from tasks.checks import name_some
from tasks.hub_cells import class_names, empty_places, inside, named
from tasks.hub_download import HubCopy, download
from tasks.images import DatasetImage

T = TypeVar("T")
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class HubTable:
    """One split as `datasets` gives it, with the names by which its columns are found.

    Attributes:
        table: the `datasets.Dataset`; image columns are not decoded.
        name: what errors call it.
        columns: our name of a column -> its names in the known copies, first match wins.
        overrides: our name -> the name given by the user.
        may_lack_images: whether opening an absent image tells so.
    """

    table: Any
    name: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    may_lack_images: bool = False

    def rows(self, row_type: type[T]) -> Iterator[T]:
        """Convert every row to `row_type`, a msgspec Struct; reads only its columns."""
        fields = msgspec.structs.fields(row_type)  # type: ignore[arg-type]
        present = {
            f.encode_name: self.column(f.encode_name)
            for f in fields
            if f.required or self._find(f.encode_name)
        }
        for index, row in enumerate(self._cells(present)):
            try:
                yield msgspec.convert(row, row_type, strict=False)
            except msgspec.ValidationError as error:
                raise ValueError(f"{self.name}, row {index}: {error}.") from error

    def _cells(self, present: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the cells of each row by our names; a class is its name, not its number."""
        tops = {name: self._top(column) for name, column in present.items()}
        names = {name: class_names(self.table.features[top]) for name, top in tops.items()}
        text = self.table.select_columns(sorted(set(tops.values()))).with_format("arrow")
        for rows in map(python_rows, text.iter(batch_size=_BATCH)):
            for row in rows:
                yield {
                    name: named(inside(row[top], present[name], top), names[name])
                    for name, top in tops.items()
                }

    def _top(self, column: str) -> str:
        """The column of the table that a name such as `query.en` is inside of."""
        return column if column in self.table.column_names else column.partition(".")[0]

    def images(self) -> Callable[[int], DatasetImage]:
        """Return a reference to the image of a row; it is not read.

        Raises:
            ValueError: some rows have none; names them.
        """
        column = self.column("image")
        if not self.may_lack_images:
            self._check_images(column, self._rows_without(column))
        return partial(DatasetImage, self.table.select_columns([column]), column, self.name)

    def images_of_rows(self) -> Iterator[tuple[ImageRef, ...]]:
        """Yield references to the images of each row, of which there may be several.

        Raises:
            ValueError: some rows have none; names them.
        """
        columns = self.overrides.get("image", "").split("|")
        if len(columns) == 1 and not self._is_list(self.column("image")):
            image = self.images()
            yield from ((image(index),) for index in range(len(self.table)))
            return
        if len(columns) == 1:
            columns = [self.column("image")]
        for column in columns:
            if column not in self.table.column_names:
                raise self._without(column, "image")
        lists = zip(*map(self.image_lists, columns), strict=True)
        found = [tuple(image for images in row for image in images) for row in lists]
        without = [index for index, images in enumerate(found) if not images]
        self._check_images("|".join(columns), without)
        yield from found

    def _is_list(self, column: str) -> bool:
        return hasattr(self.table.features[column], "feature")

    def image_lists(self, column: str) -> Iterator[list[DatasetImage]]:
        """Yield references to the images of each row; its cell is an image, or a list of them."""
        table = self.table.select_columns([column])
        cells = table.with_format("arrow")
        chunks = (chunk for batch in cells.iter(_BATCH) for chunk in batch.column(0).chunks)
        index = 0
        for chunk in chunks:
            is_list = hasattr(chunk.type, "value_type")
            empty = set() if is_list else set(empty_places(chunk))
            lengths = chunk.value_lengths().to_pylist() if is_list else [None] * len(chunk)
            for row, length in enumerate(lengths):
                if is_list:
                    places = range(length or 0)
                    yield [DatasetImage(cells, column, self.name, index, p) for p in places]
                else:
                    yield [] if row in empty else [DatasetImage(table, column, self.name, index)]
                index += 1

    def _check_images(self, column: str, without: Sequence[int]) -> None:
        """Raise ValueError where rows have no image."""
        if without:
            raise ValueError(
                f"{self.name} has {len(without)} row(s) without an image in column '{column}': "
                f"{name_some(without)}; give them one, or leave the rows out."
            )

    def _rows_without(self, column: str) -> list[int]:
        """Return the rows whose image cell is empty; no image is copied or decoded."""
        found: list[int] = []
        start = 0
        cells = self.table.select_columns([column]).with_format("arrow")
        chunks = (chunk for batch in cells.iter(_BATCH) for chunk in batch.column(0).chunks)
        for chunk in chunks:
            found += [start + place for place in empty_places(chunk)]
            start += len(chunk)
        return found

    def column(self, name: str) -> str:
        """Return the copy's name of a column."""
        if column := self._find(name):
            return column
        raise self._without(" or ".join(self._candidates(name)), name)

    def _without(self, column: str, name: str) -> ValueError:
        return ValueError(
            f"{self.name} has no column '{column}', its columns are "
            f"{', '.join(self.table.column_names)}; name it by --hub_columns {name}=COLUMN."
        )

    def _find(self, name: str) -> str | None:
        return next(
            (c for c in self._candidates(name) if self._top(c) in self.table.column_names), None
        )

    def _candidates(self, name: str) -> tuple[str, ...]:
        if name in self.overrides:
            return (self.overrides[name],)
        return self.columns.get(name, (name,))


def column_names(*row_types: type) -> tuple[str, ...]:
    """Return the names of the columns that rows of these types are read from, and of the image."""
    names = (f.encode_name for kind in row_types for f in msgspec.structs.fields(kind))
    return tuple(dict.fromkeys((*names, "image")))


def is_hub_copy(source: Source) -> bool:
    """Return True where `datasets` reads this source: the Hub, or a folder it wrote."""
    root = source.data_root
    if root is None:
        return True
    try:
        with os.scandir(root) as entries:
            folders = [Path(entry.path) for entry in entries if _is_folder(entry)]
        return any(map(_is_saved, (root, *folders)))
    except OSError:
        return False  # the reader of official files says what is wrong with the folder


def open_hub_copy(
    source: Source,
    copy: HubCopy | None,
    wanted: str,
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> HubTable:
    """Open a split, from the Hub or from a folder written by `save_to_disk`.

    Args:
        source: its `hub_*` fields override those of `copy`.
        copy: None where the Hub has none.
        wanted: what is looked for, e.g. "vqav2 split 'test'".
        columns: as in HubTable.

    Raises:
        MissingSplit: this copy has no such split.
        ValueError: the Hub or the repository cannot be read.
    """
    if copy is None:
        where = "pass --data_root with the official files"
        raise MissingSplit(f"The Hub copy has no {wanted}; {where}.")
    default = copy.repo
    if source.hub_repo:  # another repository has its own configs, the default one if none is named
        copy = HubCopy(source.hub_repo, copy.split)
    copy = HubCopy(copy.repo, source.hub_split or copy.split, source.hub_config or copy.config)
    if source.data_root is not None:
        table, name = _open_saved(source.data_root, copy, wanted)
    else:
        table, name = download(copy, source.hub_revision, default), f"{copy.repo} ({copy.split})"
    if not len(table):
        raise ValueError(f"{name}, read for {wanted}, has no rows.")
    columns, may_lack = columns or {}, source.faults is not None
    return HubTable(_undecoded(table), name, columns, source.columns, may_lack)


def open_parquet(path: Path, overrides: Mapping[str, str]) -> HubTable:
    """Open a Parquet file through `datasets`, whose cache keeps a copy that is not read whole.

    Args:
        path: of the file.
        overrides: as in HubTable.

    Raises:
        ValueError: it cannot be read, or has no rows.
    """
    import datasets
    import pyarrow

    try:
        table = datasets.Dataset.from_parquet(str(path))
    except (datasets.exceptions.DatasetsError, pyarrow.ArrowInvalid) as error:
        reason = str(error.__cause__ or error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{path} is no Parquet file that can be read: {reason}.") from error
    if not len(table):
        raise ValueError(f"{path} has no rows; each must be one example.")
    return HubTable(_undecoded(table), str(path), overrides=overrides)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder or a link to one; asks the disk only of links: files are many."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and isdir(entry.path))


def _is_saved(folder: Path) -> bool:
    """Return True where `save_to_disk` wrote this folder: a DatasetDict or one Dataset."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _open_saved(root: Path, copy: HubCopy, wanted: str) -> tuple[Any, str]:
    import datasets

    folder = root / copy.config if copy.config and (root / copy.config).is_dir() else root
    if not _is_saved(folder):
        raise MissingSplit(f"No {wanted} under {root}: it has no folder {copy.config}.")
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} was written by save_to_disk, but is damaged: {error}.") from (
            error
        )
    if isinstance(saved, datasets.DatasetDict):
        splits = dict(saved)
    else:  # one Dataset remembers the split it was taken from, as in "train[:100]"
        splits = {str(saved.split or "train").split("[")[0]: saved}
    if copy.split not in splits:
        raise MissingSplit(
            f"No {wanted} under {folder}: it has {', '.join(splits)}, not '{copy.split}'; "
            "--hub_split names the one to take."
        )
    return splits[copy.split], f"{folder} ({copy.split})"


def _undecoded(table: Any) -> Any:
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table
