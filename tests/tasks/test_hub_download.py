"""What a split costs to download, against a small Hub on this machine; and the cache afterwards."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from common.terminal_table import size_of
from tasks.base import Source
from tasks.registry import get_task
from tests.helpers import REPOSITORY, one_sentence
from tests.official_files import write_hub_copy
from tests.tasks.fake_hub import FakeHub, served

REPO = "owner/documents"
WANTED = {f"pages/validation-0000{part}-of-00002.parquet" for part in (0, 1)}

# What a command does with a split, less the command: its log, then its examples with their images.
LOAD = """
import hashlib, json, logging, sys
from tasks.base import Source
from tasks.registry import get_task
logging.basicConfig(level=logging.INFO, format="%(message)s")
repo, split, revision = json.loads(sys.argv[1])
source = Source(hub_repo=repo, hub_config="pages", hub_split=split, hub_revision=revision)
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
        lines += [f"  - name: {split}", f"    num_examples: {count}"]
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
    hub: FakeHub, home: Path, code: str = LOAD, split: str = "validation", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, for the libraries read the environment once."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), **more}
    words = [sys.executable, "-c", code, json.dumps([REPO, split, None])]
    return subprocess.run(
        words, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


def examples(run: subprocess.CompletedProcess[str]) -> list[Any]:
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def tables_of(hub: FakeHub) -> dict[str, int]:
    """The parquet files fetched so far, with the bytes sent of each."""
    return {path: size for path, size in hub.fetched.items() if path.endswith(".parquet")}


def test_only_the_files_of_the_split_are_fetched_and_their_size_is_told_before(
    hub: FakeHub, tmp_path: Path, folder: Path
) -> None:
    first = run(hub, tmp_path)
    assert [example[0] for example in examples(first)] == [500, 501, 502]
    assert tables_of(hub) == {path: len(hub.files[path]) for path in WANTED}
    size = size_of(sum(tables_of(hub).values()))
    told = f"owner/documents, split validation: 2 file(s), {size} to download, 0.0 MiB here already"
    assert told in first.stderr
    assert float(size.split()[0]) > 0.5
