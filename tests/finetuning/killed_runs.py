"""Trainings that are killed: each in a child process, at a chosen moment of its work."""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetuning.training.job import Job
from finetuning.training.prepare import Prepared
from finetuning.training.run import finetune
from finetuning.training.trainer import AnswerTrainer


class _Moments(TrainerCallback):
    """Counts steps and file operations of a run; ends the process without a word at one of them."""

    def __init__(self, folder: Path, kill_at: int | None) -> None:
        self.folder = str(folder)
        self.kill_at = kill_at
        self.count = 0

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        self.pass_one()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.pass_one()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_operation = event in ("open", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
        if is_operation and str(arguments[0]).startswith(self.folder):
            self.pass_one()


def train(job: Job, kill_at: int | None = None, *, with_random_state: bool = True) -> int:
    """Train in a child; return how many moments it had, or 0 where it was killed at the given one.

    Raises:
        AssertionError: it ended otherwise.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.write(writer, str(_train(job, kill_at, with_random_state)).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL and kill_at is not None
        return 0
    assert os.waitstatus_to_exitcode(status) == 0
    return int(said)


def _train(job: Job, kill_at: int | None, with_random_state: bool) -> int:
    moments = _Moments(job.output_dir, kill_at)
    sys.addaudithook(moments.audit)
    make = Prepared.make_trainer

    def make_watched(*arguments: Any) -> AnswerTrainer:
        trainer: AnswerTrainer = make(*arguments)
        trainer.add_callback(moments)
        return trainer

    Prepared.make_trainer = make_watched  # type: ignore[method-assign]
    if not with_random_state:
        AnswerTrainer._load_rng_state = lambda *_: None  # type: ignore[method-assign]
    finetune(job)
    return moments.count
