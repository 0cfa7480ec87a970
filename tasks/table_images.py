"""The images that a table names, by paths or by URLs whose images lie here."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from common.near_paths import near_path
from tasks.base import ImageRef, Source
from tasks.cells import is_empty, text_cell, written_list
from tasks.checks import name_some
from tasks.faults import Fault
from tasks.images import FileImage, UnusableImage
from tasks.tables import Row, note_line

SEPARATOR = "|"  # no file name of Windows has it, and none that is usual elsewhere

_MOST_HINTS = 3  # each looks through a whole folder


def join_names(images: Sequence[ImageRef]) -> str:
    """Return the names of images as a cell has them."""
    return SEPARATOR.join(image.name for image in images)


def further_column(number: int) -> str:
    """Return our name of a further column of images, from 2."""
    return f"image {number}"


def names_of_rows(
    rows: Iterable[Row], path: Path, faults: list[Fault] | None
) -> dict[int, tuple[str, ...]]:
    """Return the paths or URLs of the images of each row; faults are taken as by `note_line`."""
    places = {}
    for number, cells in rows:
        try:
            places[number] = _names_of_row(cells, path, number)
        except ValueError as error:
            note_line(faults, path, number, error)
    return places


def numbered(places: Mapping[int, Sequence[str]]) -> Iterator[tuple[int, str]]:
    """Yield each name with the number of its row."""
    return ((number, place) for number, own in places.items() for place in own)


def _names_of_row(cells: Mapping[str, Any], path: Path, number: int) -> tuple[str, ...]:
    """The images of a row; of several columns those that are empty are left out."""
    images = [cell for name, cell in cells.items() if name.partition(" ")[0] == "image"]
    images = [cell for cell in images if not is_empty(cell)] or images[:1]
    first = images[0][0] if isinstance(images[0], list) and images[0] else images[0]
    if isinstance(first, dict | bytes):
        raise ValueError(
            f"{path} holds the images themselves, not their paths; read it by --hub_repo "
            f"{path.parent}, which takes such a folder too."
        )
    where = f"{path}, line {number}, column of the image"
    return tuple(name for image in images for name in names_in(image, where))


def names_in(cell: Any, where: str) -> tuple[str, ...]:
    """Return the paths or URLs of the images that a cell names.

    Several are a list, as `datasets` has it under `file_names`, a text that writes out such a list,
    or names with `|` between them.

    Args:
        cell: as the table holds it.
        where: how an error calls it.

    Raises:
        ValueError: a name is empty, or none.
    """
    entries = written_list(cell)
    if isinstance(entries, str) and SEPARATOR in entries:
        entries = entries.split(SEPARATOR)
    if isinstance(entries, list | tuple) and entries:
        return tuple(text_cell(entry, where) for entry in entries)
    return (text_cell(cell, where),)


def local_names(
    places: Iterable[tuple[int, str]], path: Path, unit: str = "line"
) -> dict[str, str]:
    """Map each path or URL in cells to the path of its image: of a URL its last part, else itself.

    Args:
        places: such ones, each with the number of its line.
        path: of the table.
        unit: what an error calls a row of it.

    Raises:
        ValueError: what begins as a URL is none, or two URLs end alike: one file would stand for
            two images.
    """
    names: dict[str, str] = {}
    first: dict[str, str] = {}
    for number, place in places:
        if place in names:
            continue
        where = f"{path}, {unit} {number}"
        name = names[place] = _last_part(place, where) if is_url(place) else place
        if first.setdefault(name, place) != place:
            raise ValueError(
                f"{path} names the images {first[name]} and {place}, which would be one file, "
                f"{name}; save them under different names and write these into the table."
            )
    return names


def find_images(
    places: Collection[tuple[int, str]], path: Path, source: Source, wanted: str, unit: str = "line"
) -> dict[str, FileImage | UnusableImage]:
    """Map each path or URL in cells to its image.

    Args:
        places: each path or URL, with the number of its row.
        path: the table.
        source: where images may lie.
        wanted: what an error calls the data.
        unit: what an error calls a row of the table.

    Returns:
        The images. One that is missing need not be there where the source is without images; where
        the source lists faults or skips images, to open it tells where it was looked for.

    Raises:
        ValueError: images are missing, counted and some of them named.
    """
    names, folders = local_names(places, path, unit), _folders(path, source)
    found = {place: _first_file(folders, name) for place, name in names.items()}
    missing = [place for place, file in found.items() if file is None]
    numbers = {place: number for number, place in reversed([*places])}
    may_be_missing = source.skips_images or source.faults is not None
    if missing and source.with_images and not may_be_missing:
        first, *others = [f"{place} ({unit} {numbers[place]})" for place in missing]
        named = name_some([f"{first}{_difference(folders, names[missing[0]])}", *others])
        are = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f"{wanted}: {len(missing)} of the {len(names)} images that {path} names {are} missing: "
            f"{named}; looked in {_looked_in(folders, missing, 'and')}; put what is missing there, "
            "name its folder by --data_root, or train and score without such rows by "
            "--on_bad_image skip."
        )
    images: dict[str, FileImage | UnusableImage] = {}
    hinted = missing[:_MOST_HINTS]
    for place, file in found.items():
        if file is None and may_be_missing:
            where = f"{path}, {unit} {numbers[place]}"
            difference = _difference(folders, names[place]) if place in hinted else ""
            looked = _looked_in(folders, [place], "or")
            reason = f"({where}) does not exist in {looked}{difference}."
            images[place] = UnusableImage(place, reason)
        else:
            images[place] = FileImage(str(file or folders[0] / names[place]))
    return images


def check_apart(
    images: Mapping[str, ImageRef],
    path: Path,
    others: Mapping[str, str],
    other: Path,
    source: Source,
) -> None:
    """Refuse two URLs of two tables, those of two splits, that would open the same file.

    Tables in separate folders may each have a `1.jpg` beside them.

    Args:
        images: each cell of a table -> its image.
        path: that table.
        others: each cell of the other table -> the path to look for.
        other: the other table.
        source: where images may lie.

    Raises:
        ValueError: there are such two; names them.
    """
    there = {place: image for place, image in images.items() if isinstance(image, FileImage)}
    files = {place: Path(image.name) for place, image in there.items()}
    urls = {file.name: place for place, file in files.items() if is_url(place)}
    folders = _folders(other, source)
    for place, name in others.items():
        url = urls.get(name, place)
        if url == place or not is_url(place):
            continue
        file = _first_file(folders, name)
        if file and file.samefile(files[url]):
            raise ValueError(
                f"{path} names the image {url} and {other} {place}, which would be one file, "
                f"{file}; keep each table with its images in a separate folder, or save these "
                "two under different names and write these into the tables."
            )


def _folders(path: Path, source: Source) -> list[Path]:
    roots = dict.fromkeys([source.data_root or path.parent, path.parent])
    # a path may also be as a script would open it, from the current folder
    return [folder for root in roots for folder in (root, root / "images")] + [Path()]


def is_url(place: str) -> bool:
    """Return True where a cell is a URL and not a path."""
    return place.lower().startswith(("http://", "https://", "file://"))


def _last_part(url: str, where: str) -> str:
    """Return the name of a URL's image: its last part, of a file's URL the whole path."""
    try:
        path = unquote(urlsplit(url).path)
        return path if url.lower().startswith("file:") else path.rpartition("/")[2] or url
    except ValueError as error:
        raise ValueError(
            f"{where}: '{url}' is no URL ({error}); correct it, or write the path of the image."
        ) from error


def _first_file(folders: list[Path], name: str) -> Path | None:
    """Return the file of a name as it is written, or else as another system would write it."""
    slashed = name.replace("\\", "/")
    forms = [
        form for n in (name, slashed) for form in (n, normalize("NFC", n), normalize("NFD", n))
    ]
    files = (folder / form for form in dict.fromkeys(forms) for folder in folders)
    return next((file for file in files if os.path.isfile(file)), None)  # any text may be a name


def _looked_in(folders: Sequence[Path], missing: Sequence[str], word: str) -> str:
    """Name the folders, and how the images of URLs are looked for there."""
    named = dict.fromkeys("this folder" if f == Path() else str(f) for f in folders)
    as_named = ", for a URL's last part" if any(map(is_url, missing)) else ""
    return f" {word} ".join(named) + as_named


def _difference(folders: list[Path], name: str) -> str:
    """Say what is there in place of a missing image, if something is; begins with a blank."""
    parts = [part.strip() for part in re.split(r"[;,|\n]", name) if part.strip()]
    if len(parts) > 1 and all(_first_file(folders, part) for part in parts):
        return f" ({name} names {len(parts)} images: write {' | '.join(parts)})"
    for place in (folder / name.replace("\\", "/") for folder in folders):
        if os.path.islink(place):  # of a name that is too long it says no
            return f" ({place} is a link to {os.readlink(place)}, which leads to no file)"
        files = sorted(place.parent.iterdir()) if place.parent.is_dir() else ()
        for file in filter(Path.is_file, files):
            if file.name.casefold() == place.name.casefold():
                return f" (there is {file}, with other capitals)"
            if file.stem == place.stem:
                return f" (there is {file}, with another ending)"
    near = (near_path(folder / name, same_numbers=True) for folder in folders)
    return next((f" (did you mean {path}?)" for path in near if path), "")
