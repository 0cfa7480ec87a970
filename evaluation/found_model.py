"""A model that is to answer: found first, loaded only once its data is known to be in order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.prompt_template import check_template
from evaluation.prompting import Prompter, make_prompter
from evaluation.request import ModelRequest, PromptRequest
from models.checkpoint import Checkpoint, run_folder_of
from models.quantization import Quantization
from models.run_record import prompt_settings, read_run
from models.settings import Auto
from tasks.base import Task

if TYPE_CHECKING:
    from evaluation.prediction import Predictor
    from models.base import Family
    from models.loading import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A checkpoint with the record of the run that made it.

    Attributes:
        wanted: what was asked for.
        checkpoint: where it lies.
        fed_by: where its processor lies; with the adapter even where that is left out.
        run: its run.json; empty where there is none.
        quantization: how the language model will be held.
    """

    wanted: ModelRequest
    checkpoint: Checkpoint
    fed_by: Checkpoint
    run: Mapping[str, Any]
    quantization: Quantization

    @property
    def dtype(self) -> "Dtype":
        """Return the precision of what is not quantised: the one asked for, else the run's."""
        return self.wanted.dtype or self.run.get("settings", {}).get("dtype") or "auto"

    def family(self) -> "Family":
        """Load what feeds the model.

        Raises:
            ValueError: the device is not there, or the processor cannot be read.
        """
        from models.loading import check_device, load_family

        check_device(self.wanted.device)
        return load_family(self.fed_by)

    def prompter(
        self, task: Task, prompt: PromptRequest, family: "Family | None" = None
    ) -> Prompter:
        """Return what asks a task's examples, by the request, else by the run, else by the task.

        Args:
            task: whose examples it asks.
            prompt: the request.
            family: feeds the model; None loads it.

        Raises:
            ValueError: the prompt has no meaning for the model, or as `family`.
        """
        same_task = prompt_settings(self.run, task.name)
        return make_prompter(
            task,
            family or self.family(),
            prompt.template or same_task.get("prompt_template"),
            prompt.max_length or same_task.get("max_length"),
            prompt.truncate or same_task.get("truncate", False),
            prompt.system_message or same_task.get("system_message"),
        )

    def load(self, family: "Family", beside: Mapping[str, Path] = {}) -> Any:
        """Load the weights; see `models.loading.load_model`.

        Args:
            family: feeds the model.
            beside: name -> folder of further adapters.
        """
        from models.loading import load_model

        loaded = load_model(
            self.checkpoint,
            quantization=self.quantization,
            dtype=self.dtype,
            device=self.wanted.device,
            family=family,
            beside=beside,
        )
        return loaded.model

    def predictor(
        self,
        task: Task,
        prompter: Prompter,
        *,
        batch_size: int | Auto = "auto",
        decoding: Mapping[str, Any] = {},
        seed: int = 0,
        num_workers: int | Auto = "auto",
        model: Any = None,
    ) -> "Predictor":
        """Return what answers.

        Args:
            task: whose examples it answers.
            prompter: asks.
            batch_size: examples answered at once.
            decoding: settings by name, in place of those of the run.
            seed: of drawn answers.
            num_workers: processes that read images.
            model: the loaded model; None loads it.
        """
        from evaluation.prediction import make_predictor

        return make_predictor(
            model or self.load(prompter.family),
            task,
            prompter,
            batch_size=batch_size,
            generation={"seed": seed} | prompt_settings(self.run, task.name) | dict(decoding),
            num_workers=num_workers,
        )


def find_model(wanted: ModelRequest, prompt: PromptRequest) -> FoundModel:
    """Find a model and check what can be known of it without its processor.

    Raises:
        ValueError: there is none, or no adapter to be left out, or the prompt or the precision
            has no meaning for it.
    """
    from models.quantization import check_quantization

    check_template(prompt.template)
    checkpoint = found = wanted.resolve()
    if wanted.without_adapter:
        if found.adapter is None:
            raise ValueError(
                f"--without_adapter would change nothing: {wanted.path} is a model and no adapter; "
                "leave it out, or name a run."
            )
        checkpoint = replace(found, adapter=None)
    run = read_run(run_folder_of(found.adapter or Path(found.base)))
    trained_in = run.get("settings", {}).get("quantization", checkpoint.stored_in or "none")
    quantization = wanted.quantization or trained_in
    check_quantization(quantization, checkpoint.stored_in, checkpoint.base)
    return FoundModel(
        wanted=wanted, checkpoint=checkpoint, fed_by=found, run=run, quantization=quantization
    )
