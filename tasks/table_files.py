"""The tables that a path or a folder stands for: a file, an image folder's metadata, or shards.

Image folders are laid out as `datasets` documents it,
https://huggingface.co/docs/datasets/image_dataset: `metadata.csv`, `.jsonl` or `.parquet` beside
the images or in a folder for each split. Shards are tar files, as `webdataset` writes them.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common.near_paths import did_you_mean
from tasks.base import MissingSplit
from tasks.checks import name_some
from tasks.tables import SUFFIXES

logger = logging.getLogger(__name__)

SHARD_SUFFIX = ".tar"
SPLIT_NAMES = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_METADATA = tuple(f"metadata{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True, slots=True)
class Shards:
    """The tar files of one split, in their order."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        """The first and the last one."""
        first, last = self.paths[0], self.paths[-1]
        return str(first) if first == last else f"{first} to {last.name}"


Table = Path | Shards


def open_table(path: Path) -> Table:
    """Return the table that a path stands for.

    Args:
        path: a table; a tar file, or several as `shard-{000..009}.tar`; a folder with metadata of
            its images or with tar files.

    Raises:
        ValueError: nothing is there, or a tar file is compressed.
    """
    if path.name.lower().endswith(_COMPRESSED):
        raise ValueError(
            f"{path} is compressed, and images are read from their place in a tar file; unpack it "
            "to a plain .tar."
        )
    if path.suffix.lower() == SHARD_SUFFIX:
        paths = [Path(name) for name in _expand(str(path))]
        if not paths:
            raise ValueError(
                f"{path} names no shard: the numbers in braces go down; write the lower one first."
            )
        if missing := [shard for shard in paths if not shard.is_file()]:
            raise ValueError(
                f"{len(missing)} of the {len(paths)} shard(s) of {path} do not exist: "
                f"{name_some(missing)}; correct the name, or its numbers in braces."
            )
        return Shards(tuple(paths))
    if path.is_dir():
        found = _in_folder(path)
        if found and len(_splits_of(found[0])) > 1:
            raise ValueError(
                f"The folder {path} holds shards of several splits; name those of one, as "
                f"{path}/train-{{000..009}}.tar, or pass the folder as --data_root."
            )
        if found:
            return first_of(found, "its path")
        raise ValueError(
            f"The folder {path} holds no table: looked for {', '.join(_METADATA)} and "
            f"*{SHARD_SUFFIX}."
        )
    if not path.is_file():
        raise ValueError(
            f"The table {path} does not exist{did_you_mean(path, 'give the path of a file')}"
        )
    return path


def find_table(root: Path | None, split: str, wanted: str, option: str) -> Table:
    """Find the table of a split in a folder; of several the first counts, which is said.

    Looked for are `train.csv` and the other kinds; a folder of the split with metadata or shards;
    `train*.tar`; and for train what no split is named for.

    Args:
        root: the folder.
        split: train, val or test.
        wanted: what an error calls the data.
        option: that names a table instead.

    Raises:
        MissingSplit: none of them is there.
    """
    if root is None:
        raise MissingSplit(f"No table of {wanted}: name it by {option}.")
    found = [*_named_tables(root, split)]
    if split == "train":  # a tar file beside a table may hold its images
        of_no_split = [table for table in _in_folder(root) if _splits_of(table) <= {None}]
        found += [table for table in of_no_split if isinstance(table, Path) or not found]
    if found:
        return first_of(found, option)
    stems = SPLIT_NAMES[split]
    names = [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    places = [f"{stem}/{_METADATA[0]}" for stem in stems] + [f"{s}*{SHARD_SUFFIX}" for s in stems]
    raise MissingSplit(
        f"No table of {wanted} under {root}: looked for {', '.join(names + places)}; name it by "
        f"{option}."
    )


def _named_tables(root: Path, split: str) -> Iterator[Table]:
    """Yield what is named for a split, the preferred one first."""
    stems = SPLIT_NAMES[split]
    files = (root / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES)
    yield from filter(Path.is_file, files)
    for stem in stems:
        yield from _in_folder(root / stem)
        if shards := sorted(root.glob(f"{stem}*{SHARD_SUFFIX}")):
            yield Shards(tuple(shards))


def first_of(found: Sequence[Table], option: str) -> Table:
    """Return the first of the tables that one may be meant by, and name the others once.

    Args:
        found: the tables.
        option: names one.
    """
    first, *others = [t.paths if isinstance(t, Shards) else (t,) for t in found]
    if left := dict.fromkeys(path for paths in others for path in paths if path not in first):
        _say(f"{found[0]} is read, and {name_some([*left])} not; name the one meant by {option}.")
    return found[0]


@cache  # the tables of other splits are looked for too
def _say(sentence: str) -> None:
    logger.warning("%s", sentence)


def _in_folder(folder: Path) -> list[Table]:
    """Return the metadata of a folder's images, and its shards."""
    found: list[Table] = [folder / name for name in _METADATA if (folder / name).is_file()]
    shards = sorted(folder.glob(f"*{SHARD_SUFFIX}"))
    return [*found, Shards(tuple(shards))] if shards else found


def _splits_of(table: Table) -> set[str | None]:
    """Return the splits that shards are named for; None stands for those of no split."""
    names = [path.name for path in table.paths] if isinstance(table, Shards) else []
    return {
        next((split for split, stems in SPLIT_NAMES.items() if name.startswith(stems)), None)
        for name in names
    }


def _expand(name: str) -> Iterator[str]:
    """Yield the names that `{000..009}` stands for, with as many digits; others are one name."""
    match = _BRACES.search(name)
    if match is None:
        yield name
        return
    first, last = match[1], match[2]
    for number in range(int(first), int(last) + 1):
        digits = str(number).zfill(len(first))
        yield from _expand(f"{name[: match.start()]}{digits}{name[match.end() :]}")
