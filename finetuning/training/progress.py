"""The progress of a training: its steps, loss and last score."""

import logging
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from common.progress import Bar

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)


class Progress(TrainerCallback):
    """A bar with the loss and the last score.

    Args:
        tasks: names of what is trained on.
        metric: name of the headline.
    """

    def __init__(self, tasks: str, metric: str) -> None:
        self.tasks = tasks
        self.metric = metric
        self.bar: Bar | None = None

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Open the bar, at the step where a resumed run goes on."""
        if state.is_world_process_zero:
            done = f", {state.global_step} of them done before" if state.global_step else ""
            logger.info("steps: %s%s", f"{state.max_steps:,}", done)
            bar = Bar(f"training {self.tasks}", state.max_steps, "steps", state.global_step)
            self.bar = bar.__enter__()

    def on_step_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Move the bar by the step before, whose loss and score are known by now."""
        if self.bar is not None:
            self.bar.move_to(state.global_step)

    def on_log(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the newest loss and score."""
        names = {"loss": "loss", f"eval_{self.metric}": self.metric}
        if self.bar is not None:
            self.bar.show(**{names[k]: v for k, v in (logs or {}).items() if k in names})

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Move the bar by the last step and close it."""
        if self.bar is not None:
            self.bar.move_to(state.global_step)
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands; what is printed next begins a new line."""
        if self.bar is not None:
            self.bar.close()
