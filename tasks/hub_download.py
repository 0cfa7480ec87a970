"""A split on the Hub: only its own files are fetched, of all that a repository holds."""

import errno
import logging
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from common import processes
from common.hub import hub_is_reachable, unreachable
from common.near_paths import near_path
from common.terminal_table import size_of
from tasks.base import MissingSplit

# "train", and the name in "train[:100]"; sums of splits are left to `datasets`
_SPLIT = re.compile(r"(\w+(?:\.\w+)*)(?:\[[^]]*\])?")
_FILE = re.compile(r"hf://datasets/(?P<repo>[^@]+)@(?P<commit>[0-9a-f]{40})/(?P<path>.+)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubCopy:
    """The place of a split on the Hub."""

    repo: str
    split: str
    config: str | None = None


def download(copy: HubCopy, revision: str | None, default_repo: str) -> Any:
    """Return a split as a `datasets.Dataset`, and keep it in the cache of `datasets`.

    Args:
        copy: its repository may be a local folder in the form of one.
        revision: a branch, a tag or a commit; None is the main branch.
        default_repo: the copy that errors recommend.

    Raises:
        MissingSplit: the repository has no such split.
        ValueError: the Hub or the repository cannot be read.
        OSError: the disk is too small, or cannot be written to.
    """
    if not os.path.isdir(copy.repo) and not hub_is_reachable():
        raise _unreachable(copy.repo)
    import datasets  # slow, so only where it is of use
    import pyarrow

    logger.info("loading %s from the Hub", copy)
    try:
        return _load(copy, revision)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise ValueError(
            f"{copy.repo} is a loading script, which `datasets` no longer runs; take a parquet "
            f"copy such as {default_repo}, the default where --hub_repo is left out."
        ) from error
    except datasets.exceptions.DatasetNotFoundError as error:
        near = near_path(copy.repo)
        meant = f" (did you mean {near}?)" if near else ""
        raise ValueError(
            f"{copy.repo} is not on the Hub or needs a login{meant}; check --hub_repo, run "
            "`hf auth login`, or pass --data_root with the official files."
        ) from error
    except datasets.exceptions.NonMatchingSplitsSizesError as error:
        expected, found = re.findall(r"num_examples=(\d+)", str(error))[:2]
        raise ValueError(
            f"{copy.repo} has {found} rows in split {copy.split} and its card says {expected}; "
            "files are missing or new, so take another copy or another --hub_revision."
        ) from error
    except (datasets.exceptions.DatasetsError, pyarrow.ArrowInvalid) as error:
        raise ValueError(
            f"{copy.repo} cannot be read: {_first_line(error.__cause__ or error)}; its files are "
            "damaged or not alike, so load it again or take another copy."
        ) from error
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise  # this machine's disk, not the network
        raise _unreachable(copy.repo) from error
    except ValueError as error:  # no such config or split; says which there are
        kind = MissingSplit if "Unknown split" in str(error) else ValueError
        raise kind(
            f"{copy.repo} cannot give this split: {_first_line(error)}; see --hub_config and "
            "--hub_split."
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):  # what the Hub's library stands on
            raise
        raise _unreachable(copy.repo) from error  # the connection broke off


def _load(copy: HubCopy, revision: str | None) -> Any:
    """Prepare one split in a cache of its own; `load_dataset` prepares all or none.

    The cache has the form of that of `datasets`, which finds the split in it without a network.
    """
    import datasets
    from huggingface_hub import constants

    repo, config = copy.repo, copy.config
    load_all = partial(datasets.load_dataset, repo, config, split=copy.split, revision=revision)
    name = _SPLIT.fullmatch(copy.split)
    if name is None:
        return load_all()
    root = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    own = root / "single_splits" / name[1]
    try:
        builder = datasets.load_dataset_builder(repo, config, revision=revision, cache_dir=str(own))
    except (OSError, ValueError):
        if not constants.HF_HUB_OFFLINE:
            raise
        return load_all()  # it may have been cached with all other splits
    if not _is_prepared(Path(builder.cache_dir)):
        files = builder.config.data_files
        with_others = root / Path(builder.cache_dir).relative_to(own)
        if not files or _is_prepared(with_others):
            return load_all()
        if name[1] not in files:
            raise ValueError(f"Unknown split '{name[1]}'. Should be one of {list(files)}.")
        _leave_out_other_splits(builder, name[1])
        _fetch(files[name[1]], f"{repo}, split {name[1]}")
    builder.download_and_prepare()
    return builder.as_dataset(split=copy.split)


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()  # the folder is renamed when it is complete


def _leave_out_other_splits(builder: Any, split: str) -> None:
    """Let a builder know of one split; the number of rows that the card gives is still checked."""
    import datasets

    info, files = builder.info, builder.config.data_files
    builder.config.data_files = datasets.data_files.DataFilesDict({split: files[split]})
    known = (info.splits or {}).get(split)
    info.splits = datasets.SplitDict({split: known}) if known else None
    info.download_size, info.dataset_size, info.size_in_bytes = None, None, None


def _fetch(files: Sequence[str], name: str) -> None:
    """Download files of a repository into the cache of the Hub, after a line on their size.

    Raises:
        OSError: the disk of that cache has too little room.
    """
    places = [place for file in files if (place := _FILE.fullmatch(file))]
    if len(places) < len(files) or len({(p["repo"], p["commit"]) for p in places}) > 1:
        return  # local files, or files of several repositories: `datasets` reads them
    from huggingface_hub import constants, snapshot_download

    repo, commit = places[0]["repo"], places[0]["commit"]
    wanted: dict[str, Any] = {
        "repo_type": "dataset",
        "allow_patterns": [escape(place["path"]) for place in places],
    }
    plan = snapshot_download(repo, revision=commit, dry_run=True, **wanted)
    missing = sum(file.file_size or 0 for file in plan if file.will_download)
    here = sum(file.file_size or 0 for file in plan if not file.will_download)
    os.makedirs(constants.HF_HUB_CACHE, exist_ok=True)
    free = shutil.disk_usage(constants.HF_HUB_CACHE).free
    if missing > free:
        raise OSError(
            errno.ENOSPC,
            f"{name} takes {size_of(missing)} to download and {size_of(free)} are free, so free "
            "some space or set HF_HOME to a folder on a larger disk",
            constants.HF_HUB_CACHE,
        )
    logger.info(
        "%s: %d file(s), %s to download, %s here already",
        *(name, len(plan), size_of(missing), size_of(here)),
    )
    with ExitStack() as bars:  # the library leaves them open
        make_bar: Any = partial(_bar, bars)
        snapshot_download(repo, revision=commit, tqdm_class=make_bar, **wanted)


def _bar(bars: ExitStack, **settings: Any) -> Any:
    """Draw a bar on a terminal alone; our commands switch the bars of the Hub's library off."""
    from tqdm import tqdm

    is_hidden = True if processes.rank() else None
    return bars.enter_context(tqdm(**{**settings, "leave": False, "disable": is_hidden}))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _unreachable(repo: str) -> ValueError:
    return unreachable(repo, f"{repo} cannot be read", "pass --data_root with the official files")
