"""What a split costs to download, against a small Hub on this machine; and the cache afterwards."""

import fcntl
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import httpx2
import pytest

from common.terminal_table import size_of
from tasks.base import Source
from tasks.registry import get_task
from tests.helpers import REPOSITORY, one_sentence
from tests.official_files import write_hub_copy
from tests.tasks.fake_hub import FakeHub, served

REPO = "owner/documents"
WANTED = {f"pages/validation-0000{part}-of-00002.parquet" for part in (0, 1)}

# What a command does with splits, less the command: its log, then the examples and their images.
LOAD = """
import hashlib, json, logging, sys
from tasks.base import Source
from tasks.registry import get_task
logging.basicConfig(format="%(message)s")
logging.getLogger("tasks").setLevel(logging.INFO)
for split in sys.argv[1:]:
    source = Source(hub_repo="owner/documents", hub_config="pages", hub_split=split)
    for example in get_task("docvqa").load("val", source):
        pixels = hashlib.sha256(example.image.open().tobytes()).hexdigest()
        print(json.dumps([example.example_id, example.references, pixels]))
"""
LOAD_ALL = "import datasets\ndatasets.load_dataset('owner/documents', 'pages')\n"


def card(num_validation: int) -> str:
    """The README of two configurations of three splits, with their numbers of rows."""
    lines = ["---", "configs:"]
    for config in ("pages", "covers"):
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in ("train", "validation", "test"):
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    lines += ["dataset_info:", "- config_name: pages", "  splits:"]
    for split, count in {"train": 4, "validation": num_validation, "test": 3}.items():
        lines += [f"  - name: {split}", f"    num_examples: {count}", "    num_bytes: 1"]
    return "\n".join([*lines, "---", ""])


def write_repository(root: Path, num_validation: int = 3) -> Path:
    """A repository of about half a MiB a file; validation, of `pages`, is in two files."""
    tables = datasets.load_from_disk(str(write_hub_copy(root / "saved", "docvqa")))
    draw = random.Random(0)
    for config in ("pages", "covers"):
        for split in ("train", "validation", "test"):
            table = tables["train" if split == "train" else "validation"]
            filler = [draw.randbytes(150_000).hex() for _ in range(len(table))]
            table = table.add_column("filler", filler)
            for part in range(2):
                half = table.shard(2, part, contiguous=True)
                half.to_parquet(root / f"repo/{config}/{split}-0000{part}-of-00002.parquet")
    (root / "repo/README.md").write_text(card(num_validation))
    return root / "repo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    with served(FakeHub(REPO, files)) as hub:
        yield hub


def run(
    hub: FakeHub,
    home: Path,
    *splits: str,
    code: str = LOAD,
    stderr: int = subprocess.PIPE,
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, for the libraries read the environment once."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), **more}
    words = [sys.executable, "-c", code, *(splits or ("validation",))]
    return subprocess.run(
        words, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def examples(run: subprocess.CompletedProcess[str]) -> list[Any]:
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def tables_of(hub: FakeHub) -> dict[str, int]:
    """The parquet files fetched so far, with the bytes sent of each."""
    return {path: size for path, size in hub.fetched.items() if path.endswith(".parquet")}


def read_terminal(reader: int) -> str:
    shown = b""
    with suppress(OSError):  # the end, on Linux
        while part := os.read(reader, 2**12):
            shown += part
    return shown.decode()


def test_only_the_files_of_the_split_are_fetched_and_their_size_is_told_before(
    hub: FakeHub, tmp_path: Path
) -> None:
    online = run(hub, tmp_path)
    assert [example[0] for example in examples(online)] == [500, 501, 502]
    assert tables_of(hub) == {path: len(hub.files[path]) for path in WANTED}
    size = size_of(sum(tables_of(hub).values()))
    told = f"{REPO}, split validation: 2 file(s), {size} to download, 0.0 MiB here already\n"
    assert told in online.stderr and float(size.split()[0]) > 0.5
    assert "Downloading" not in online.stderr  # the bar: a log is no terminal

    hub.fetched.clear()
    again, offline = run(hub, tmp_path), run(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert examples(again) == examples(offline) == examples(online)
    assert hub.fetched == {} and "to download" not in again.stderr


def test_each_split_has_a_cache_of_its_own(hub: FakeHub, tmp_path: Path) -> None:
    online = run(hub, tmp_path, "validation", "train")
    assert [e[0] for e in examples(online)] == [500, 501, 502, 100, 101, 102, 103]
    splits = {path.split("-")[0] for path in tables_of(hub)}
    assert splits == {"pages/validation", "pages/train"}
    offline = run(hub, tmp_path, "validation", "train", HF_HUB_OFFLINE="1")
    assert examples(offline) == examples(online)


def test_what_was_cached_with_all_splits_serves_online_and_offline(
    hub: FakeHub, tmp_path: Path
) -> None:
    assert run(hub, tmp_path, code=LOAD_ALL).returncode == 0
    assert len(tables_of(hub)) == 6
    hub.fetched.clear()
    online, offline = run(hub, tmp_path), run(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert [example[0] for example in examples(online)] == [500, 501, 502]
    assert examples(offline) == examples(online)
    assert hub.fetched == {}
    assert not list(tmp_path.rglob("datasets/single_splits/**/*.arrow"))


def test_files_that_are_here_are_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    """The user removed the cache of `datasets` and one file of the Hub's."""
    examples(run(hub, tmp_path))
    shutil.rmtree(tmp_path / "datasets")
    gone = max(WANTED)
    for file in tmp_path.rglob(Path(gone).name):
        file.resolve().unlink()
        file.unlink()
    hub.fetched.clear()
    sizes = [size_of(len(hub.files[path])) for path in (gone, min(WANTED))]
    assert f"{sizes[0]} to download, {sizes[1]} here already" in run(hub, tmp_path).stderr
    assert list(tables_of(hub)) == [gone]


def test_a_part_of_a_split_costs_that_split(hub: FakeHub, tmp_path: Path) -> None:
    some = examples(run(hub, tmp_path, "validation[1:]"))
    assert [example[0] for example in some] == [501, 502]
    assert set(tables_of(hub)) == WANTED


def test_a_split_that_is_not_there_costs_nothing(hub: FakeHub, tmp_path: Path) -> None:
    refused = run(hub, tmp_path, "trian")
    last = refused.stderr.splitlines()[-1]
    assert "MissingSplit" in last and "['train', 'validation', 'test']" in last
    assert tables_of(hub) == {}


def test_a_disk_that_is_too_small_is_told_before_the_download(hub: FakeHub, tmp_path: Path) -> None:
    small = "import os, shutil\nfrom types import SimpleNamespace\n"
    small += "shutil.disk_usage = lambda _: SimpleNamespace(free=2**18)\n"
    last = run(hub, tmp_path, code=small + LOAD).stderr.splitlines()[-1]
    assert "split validation takes 0.9 MiB to download and 0.2 MiB are free" in last
    assert last.startswith("OSError: ") and "HF_HOME" in last and str(tmp_path / "hub") in last
    assert tables_of(hub) == {}


def test_a_terminal_shows_the_progress_of_the_download(hub: FakeHub, tmp_path: Path) -> None:
    """The Hub's library is told to draw no bars, as by every command; this one is shown."""
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with ThreadPoolExecutor(1) as pool:  # a full terminal would stop the process
        screen = pool.submit(read_terminal, reader)
        run(hub, tmp_path, stderr=writer, HF_HUB_DISABLE_PROGRESS_BARS="1")
        os.close(writer)
        shown = screen.result()
    size = f"{sum(tables_of(hub).values()) / 1000:.0f}kB"
    assert re.search(rf"100%.*{size} / *{size}", shown), shown


def test_a_connection_that_breaks_off_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: Any, **__: Any) -> Any:
        raise httpx2.RemoteProtocolError("peer closed connection")

    monkeypatch.setattr(datasets, "load_dataset_builder", break_off)
    with one_sentence(f"{REPO} cannot be read", "--data_root"):
        get_task("docvqa").load("val", Source(hub_repo=REPO))


def test_a_repository_without_a_card_is_read_by_the_names_of_its_files(
    hub: FakeHub, tmp_path: Path
) -> None:
    pages = {path: content for path, content in hub.files.items() if path.startswith("pages/")}
    hub.files = {path.replace("pages/", "data/"): content for path, content in pages.items()}
    code = LOAD.replace('hub_config="pages", ', "")
    online = run(hub, tmp_path, code=code)
    assert [example[0] for example in examples(online)] == [500, 501, 502]
    assert set(tables_of(hub)) == {path.replace("pages/", "data/") for path in WANTED}
    assert examples(run(hub, tmp_path, code=code, HF_HUB_OFFLINE="1")) == examples(online)


@pytest.mark.usefixtures("no_shared_cache")
def test_a_split_with_fewer_rows_than_its_card_says_is_refused(tmp_path: Path) -> None:
    repo = write_repository(tmp_path, num_validation=5)
    source = Source(hub_repo=str(repo), hub_config="pages")
    with one_sentence(f"{repo} has 3 rows in split validation and its card says 5"):
        get_task("docvqa").load("val", source)


@pytest.mark.usefixtures("no_shared_cache")
def test_a_damaged_file_of_another_split_does_no_harm(tmp_path: Path) -> None:
    repo = write_repository(tmp_path)
    (repo / "pages/train-00000-of-00002.parquet").write_bytes(b"PAR1")
    source = Source(hub_repo=str(repo), hub_config="pages")
    assert len(get_task("docvqa").load("val", source)) == 3
