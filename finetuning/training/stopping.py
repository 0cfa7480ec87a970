"""Stopping a training in order: the step is finished and saved, and nothing outlives it."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)


class StopOnSignal(TrainerCallback):
    """Ends a training after the step in which SIGTERM or Ctrl-C came; a second Ctrl-C ends it now.

    Of several processes all stop after the same step, whichever was told.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal
        self.owner = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the signals inside the block; only a program's main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._take) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self.owner:
            return  # a worker that reads images: it ends with its parent
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        logger.warning("\nStopping after this step; Ctrl-C once more stops at once.")

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Save and stop where a signal came."""
        if args.world_size > 1:
            told = torch.tensor(self.number, device=args.device)
            torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
            self.number = int(told)
        if self.number:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Leave out what is due at an epoch's end where the epoch was only left."""
        if self.number and state.epoch is not None and not float(state.epoch).is_integer():
            control.should_evaluate = control.should_save = False
