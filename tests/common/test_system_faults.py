"""Faults of the system are told from other errors by what the libraries really raise."""

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.data import DataLoader

from common.system_faults import (
    is_disk_full,
    is_out_of_memory,
    killed_worker,
    lost_process,
    quiet_workers,
)
from finetuning.training import gradients
from finetuning.training import trainer as trainer_module
from finetuning.training.run import finetune
from palitune.command import _sentence
from tests.finetuning.training_jobs import job


def caught(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as error:
        call()
    return error.value


def kill_worker() -> None:
    def end(_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    context = multiprocessing.get_context("fork")
    next(iter(DataLoader([0, 1], num_workers=1, collate_fn=end, multiprocessing_context=context)))  # type: ignore[arg-type]


def test_each_fault_is_known_for_what_it_is() -> None:
    on_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    no_memory = [caught(lambda: torch.empty(10**15)), on_gpu, MemoryError()]
    full = [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        RuntimeError("file write failed"),
    ]
    others = [ValueError("memory"), OSError(errno.ENOENT, "x"), RuntimeError("shapes differ")]
    assert [is_out_of_memory(e) for e in (*no_memory, *full, *others)] == [True] * 3 + [False] * 6
    assert [is_disk_full(e) for e in (*full, *no_memory, *others)] == [True] * 3 + [False] * 6
    assert not any(killed_worker(e) for e in (*full, *no_memory, *others))


@pytest.mark.parametrize(
    ("text", "is_lost"),
    [
        (
            "[/pytorch/third_party/gloo/gloo/tcp/pair.cc:537] Read error: Connection reset by peer",
            True,
        ),
        ("NCCL communicator was aborted on rank 0.", True),
        (
            "ncclRemoteError: A call failed possibly due to a network error or a remote process",
            True,
        ),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_a_process_that_is_gone_is_told_from_other_errors(text: str, is_lost: bool) -> None:
    assert (lost_process(RuntimeError(text)) is not None) == is_lost


def test_a_killed_worker_of_any_command_is_named() -> None:
    error = caught(kill_worker)
    said = killed_worker(error)
    assert said is not None
    assert said.startswith("A data worker (process ") and "--num_workers" in said
    assert _sentence(error) == said


@pytest.mark.parametrize("place", [gradients, trainer_module], ids=["first look", "a step"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_runs_out_in_training_is_a_sentence_with_what_to_change(
    error: Exception,
    place: ModuleType,
    pico1: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_out(*_: object) -> None:
        raise error

    monkeypatch.setattr(place, "answer_loss", run_out)
    with pytest.raises(RuntimeError) as caught:
        finetune(job(pico1, tmp_path / "run", skip_evaluation=True))
    for advice in ("--batch_size", "--gradient_accumulation_steps", "--gradient_checkpointing"):
        assert advice in str(caught.value)
    assert "no checkpoint was saved yet" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "is_said"), [(EOFError, False), (BrokenPipeError, False), (ValueError, True)]
)
def test_a_worker_that_nobody_reads_from_says_nothing(
    error: type[Exception], is_said: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """The thread that offers tensors calls the hook with whatever its connection raised."""

    def offer() -> None:
        sys.excepthook(error, error(), None)

    with quiet_workers():
        worker = multiprocessing.get_context("fork").Process(target=offer)
        worker.start()
        worker.join()
    assert (error.__name__ in capfd.readouterr().err) == is_said
    sys.excepthook(EOFError, EOFError(), None)
    assert "EOFError" in capfd.readouterr().err  # outside, and in the reader, all is said
