"""The share of a training's time that is spent waiting for the next batches."""

import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class DataWait(TrainerCallback):
    """Two clocks, by the wall: one runs inside the block, one from its end to that of the step.

    A GPU may still compute while its process waits, so there the share is an upper bound.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0
        self.computed_s = 0.0
        self._last = 0.0

    def __enter__(self) -> None:
        """Begin to wait for a step's batches."""
        self._last = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Begin to compute with them."""
        self.waited_s += self._lap()

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Stop the clocks: what is scored or saved between two steps counts for neither."""
        self.computed_s += self._lap()

    def share(self) -> float | None:
        """Return the share, 0 to 1; None before the first step."""
        total = self.waited_s + self.computed_s
        return self.waited_s / total if self.computed_s else None

    def _lap(self) -> float:
        start, self._last = self._last, time.perf_counter()
        return self._last - start
