"""Two real processes that train, score on the way and answer together; one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from finetuning.training.checkpoints import newest
from tests.finetuning.training_jobs import adapter_hash
from tests.helpers import REPOSITORY, read_json

pytestmark = pytest.mark.slow

SETTINGS = (
    *("--max_train_samples", "64", "--max_eval_samples", "10", "--batch_size", "4"),
    *("--save_steps", "3", "--eval_steps", "6", "--max_steps", "40", "--lora_rank", "4"),
)


def start(pico: Path, folder: Path, *more: str, num_processes: int = 2) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
    options = ["--model_path", str(pico), "--output_dir", str(folder), *SETTINGS, *more]
    return subprocess.Popen(
        [*torchrun, str(num_processes), "finetuning/digits.py", *options],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], exit_code: int = 0) -> str:
    said, _ = process.communicate(timeout=240)
    assert (process.returncode == 0) == (exit_code == 0), said
    return said


def test_a_dead_process_ends_the_job_and_two_go_on_to_the_same_bytes(
    pico1: Path, tmp_path: Path
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    said = finish(start(pico1, whole))
    assert said.count(", 10 examples") == 1, said  # one speaks for both
    process = start(pico1, torn)
    deadline = time.monotonic() + 120
    while newest(torn) is None:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    ranks = [child for child in children if "finetuning/digits.py" in child.cmdline()]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    said = finish(process, exit_code=1)
    assert "Another process of this job has ended" in said
    assert f"the newest checkpoint is {newest(torn)}." in said and "--resume" in said
    assert time.monotonic() - began < 45
    assert not any(child.is_running() for child in children)
    assert not (torn / "adapter_model.safetensors").exists()
    assert newest(torn) is not None

    refused = finish(start(pico1, torn, "--resume", num_processes=1), exit_code=2)
    assert "had num_processes 2, this one has 1: resume with the same" in refused
    finish(start(pico1, torn, "--resume"))
    assert adapter_hash(torn) == adapter_hash(whole)
    for name in ("predictions.jsonl", "metrics.json"):
        found, expected = (folder / "evaluation/val" / name for folder in (torn, whole))
        if name == "predictions.jsonl":
            assert found.read_bytes() == expected.read_bytes()
        else:
            assert read_json(found)["metrics"] == read_json(expected)["metrics"]
