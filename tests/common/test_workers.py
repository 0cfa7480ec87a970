"""How many processes read images."""

import multiprocessing
import os
from pathlib import Path

import pytest

from common import workers
from common.workers import FEW_EXAMPLES, count_threads, count_workers, usable_cpus


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 6 processors, and the file of its group's quota, which is not there."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(workers, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return tmp_path / "cpu.max"


def test_auto_leaves_one_processor_to_the_model(cpus: Path) -> None:
    assert count_workers("auto", FEW_EXAMPLES) == 5


def test_few_examples_are_read_by_the_process_itself(cpus: Path) -> None:
    assert count_workers("auto", FEW_EXAMPLES - 1) == 0


@pytest.mark.parametrize(("processes", "expected"), [("2", 2), ("3", 1), ("6", 0), ("8", 0)])
def test_the_processes_of_one_machine_share_it(
    cpus: Path, monkeypatch: pytest.MonkeyPatch, processes: str, expected: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert count_workers("auto", 10_000) == expected


def test_a_large_machine_starts_eight(cpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert count_workers("auto", 10_000) == 8


@pytest.mark.parametrize(
    ("num_cpus", "processes", "expected"), [(6, 1, 6), (6, 2, 3), (6, 4, 1), (6, 8, 1), (64, 1, 8)]
)
def test_threads_read_on_all_processors_of_a_process(
    cpus: Path, monkeypatch: pytest.MonkeyPatch, num_cpus: int, processes: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(num_cpus)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert count_threads() == expected


def test_a_worker_that_reads_beside_others_has_one_thread(cpus: Path) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(count_threads) == 1
    assert count_threads() == 6


@pytest.mark.parametrize("asked", [0, 3, 40])
def test_a_number_is_taken_as_it_is(cpus: Path, asked: int) -> None:
    assert count_workers(asked, 10_000) == count_workers(asked, 2) == asked


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 6), ("?", 6)],
)
def test_the_quota_of_a_group_counts(cpus: Path, quota: str, expected: int) -> None:
    cpus.write_text(f"{quota}\n")
    assert usable_cpus() == expected
