"""A training that is asked to stop, or whose worker is killed: real signals, real processes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from finetuning.training.checkpoints import newest
from tests.finetuning.child import start
from tests.finetuning.training_jobs import adapter_hash

pytestmark = pytest.mark.slow

SETTINGS = {"num_epochs": 60, "save_steps": 1000, "skip_evaluation": True, "num_workers": 2}


def wait_for(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running_workers(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step_and_it_goes_on_to_the_same_bytes(
    number: signal.Signals, pico1: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    child = start(pico1, folder, **SETTINGS)
    process = psutil.Process(child.pid)
    wait_for(lambda: len(running_workers(process)) == 2)
    workers = running_workers(process)
    time.sleep(1)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number, said
    last = newest(folder)
    assert last is not None
    assert f"Stopped by {number.name}: the newest checkpoint is {last}." in said
    assert (folder / "curves.png").is_file()
    assert "Traceback" not in said
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    for place, changes in ((folder, {"resume": True}), (tmp_path / "whole", {})):
        again = start(pico1, place, **SETTINGS, **changes)
        _, said = again.communicate(timeout=120)
        assert again.returncode == 0, said
    assert adapter_hash(folder) == adapter_hash(tmp_path / "whole")


def test_a_second_ctrl_c_ends_it_at_once(pico1: Path, tmp_path: Path) -> None:
    child = start(pico1, tmp_path / "run", **{**SETTINGS, "batch_size": 24, "num_epochs": 500})
    process = psutil.Process(child.pid)
    wait_for(lambda: len(running_workers(process)) == 2)
    os.kill(child.pid, signal.SIGSTOP)  # both come before the step ends
    child.send_signal(signal.SIGINT)
    os.kill(child.pid, signal.SIGCONT)
    child.send_signal(signal.SIGINT)
    time.sleep(0.002)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said


def test_a_killed_worker_is_named(pico1: Path, tmp_path: Path) -> None:
    child = start(pico1, tmp_path / "run", **{**SETTINGS, "num_epochs": 500})
    process = psutil.Process(child.pid)
    wait_for(lambda: len(running_workers(process)) == 2)
    worker = running_workers(process)[0]
    worker.kill()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 1, said
    assert "A data worker" in said and "--num_workers" in said and "--resume" in said
    assert "Traceback" not in said
