"""The progress bar of a training: loss, last score and time left."""

from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class Progress(TrainerCallback):
    """A bar with the loss, the last score and the time left."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.shown: dict[str, str] = {}
        self.bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Open the bar, at the step where a resumed run goes on."""
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training")

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

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
        self.shown |= {names[k]: f"{v:.3f}" for k, v in (logs or {}).items() if k in names}
        if self.bar is not None:
            self.bar.set_postfix(self.shown)

    def on_train_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands; what is printed next begins a new line."""
        if self.bar is not None:
            self.bar.close()
