"""The cache of the embedded data: the same bytes everywhere, whole or absent."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.sample import FORMAT_VERSION, WRITERS, sample_root
from tasks.sample.cache import build_once, cache_dir
from tests.helpers import REPOSITORY

GENERATE_ALL = "from tasks.sample import *; [sample_root(name) for name in WRITERS]"


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two caches, each filled by a process of its own with its own order of sets."""
    folders = [tmp_path_factory.mktemp("cache") for _ in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GENERATE_ALL],
            cwd=REPOSITORY,
            env={**os.environ, "PALITUNE_CACHE": str(folder), "PYTHONHASHSEED": str(seed)},
        )
        for seed, folder in enumerate(folders, start=1)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    return folders


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_processes_with_different_hash_seeds_write_the_same_bytes(caches: list[Path]) -> None:
    first, second = map(digests, caches)
    assert first == second
    assert len(first) > 9000


def test_the_texts_are_those_of_this_format_version(caches: list[Path]) -> None:
    # a cache filled by an older release is used as it is: with other texts the version must rise
    texts = [f"{name} {digest}" for name, digest in digests(caches[0]).items() if "json" in name]
    assert f"v{FORMAT_VERSION} {hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}" == (
        "v1 0eedb8bed5bff7eaeb8b46576985b9af710c43ae3c5fa55c11aff9c6242fd0dc"
    )


def test_the_cache_is_in_the_chosen_folder_or_else_in_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PALITUNE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "palitune"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "palitune"
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "chosen"))
    assert cache_dir() == tmp_path / "chosen"


def test_data_that_is_there_is_not_written_again(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WRITERS, "gqa", lambda root: pytest.fail("written again"))
    assert sample_root("gqa") == roots["gqa"]


def test_an_interrupted_writing_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    def break_off(root: Path) -> None:
        (root / "half").touch()
        raise KeyboardInterrupt

    folder = tmp_path / "parent" / "data"
    with pytest.raises(KeyboardInterrupt):
        build_once(folder, break_off)
    assert list(folder.parent.iterdir()) == []
    build_once(folder, lambda root: (root / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_two_writers_at_once_both_succeed_and_one_folder_remains(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=20)
    results = []

    def write(root: Path) -> None:
        barrier.wait()  # both are writing now
        (root / "file").write_text("content")
        assert not (tmp_path / "data").exists() or (tmp_path / "data" / "file").exists()
        barrier.wait()

    def build() -> None:
        results.append(build_once(tmp_path / "data", write))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "data"] * 2
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "data",
        "data/file",
    ]


def test_the_folder_can_be_read_by_other_users(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        folder = build_once(tmp_path / "data", lambda root: None)
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_unwritable_cache_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written to .*/file/.*; set PALITUNE_CACHE to"):
        sample_root("vqav2")


def test_a_task_without_sample_data_is_refused() -> None:
    with pytest.raises(ValueError, match="No sample data for 'digits'; there is for coco_capt"):
        sample_root("digits")
