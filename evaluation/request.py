"""The requests of an evaluation, as typed values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.checkpoint import Checkpoint, resolve
from models.loading import Dtype
from models.quantization import Quantization
from models.settings import Auto, FamilyOptions
from tasks.base import Source, Task
from tasks.usable import OnBadImage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A model to load.

    Attributes:
        path: folder, Hub id or `tiny`; a full model or an adapter.
        base_model: the adapter's base, where it has moved.
        revision: revision of the Hub repository.
        model_type: family that feeds the model, in place of the one its config.json names.
        family_options: settings of that family.
        allow_base_mismatch: warn where the base has other weights than the adapter was trained on.
        quantization: precision of the language model; None takes the adapter's, else `none`.
        dtype: precision of the rest; None takes that of the adapter's run, else `auto`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        without_adapter: leave the adapter out; its base is fed and asked as the run has it.
    """

    path: str
    base_model: str | None = None
    revision: str | None = None
    model_type: str | None = None
    family_options: FamilyOptions = field(default_factory=FamilyOptions)
    allow_base_mismatch: bool = False
    quantization: Quantization | None = None
    dtype: Dtype | None = None
    device: str = "auto"
    without_adapter: bool = False

    def resolve(self) -> Checkpoint:
        """Find the model; raises ValueError as `models.checkpoint.resolve` does."""
        return resolve(
            self.path,
            self.base_model,
            self.revision,
            model_type=self.model_type,
            options=self.family_options,
            allow_base_mismatch=self.allow_base_mismatch,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRequest:
    """Settings of the prompt; None takes the run's setting, else the task's.

    Attributes:
        template: text with `{question}` in it.
        system_message: text that the model reads before the question.
        max_length: text budget in tokens.
        truncate: cut prompts over the budget.
    """

    template: str | None = None
    system_message: str | None = None
    max_length: int | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        empty = [
            name
            for name, text in (("prompt", self.template), ("system message", self.system_message))
            if text is not None and not text.strip()
        ]
        if empty:
            raise ValueError(
                f"The {empty[0]} is empty, which would quietly be the run's own; leave it out for "
                "that one, or write a text."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsRequest:
    """The metrics beside the official ones.

    Attributes:
        lenient: add the unofficial variants of the task's metric.
        text_metrics: add the metrics of free-form text.
        clip_model: CLIP for CLIP-S and RefCLIP-S; None leaves them out.
        num_viz_samples: number of answers to draw as images.
        images_budget: MB of images in the report's page; 0 opens none.
        baselines: score what knows nothing of the images, and an adapter's base, too.
    """

    lenient: bool = False
    text_metrics: bool = False
    clip_model: str | None = None
    num_viz_samples: int = 0
    images_budget: float = 5.0
    baselines: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """One evaluation: a model or a file of predictions on a task's split.

    Attributes:
        task: the task.
        source: where its data comes from.
        model: the model to score; None where a file is scored.
        predictions: the file to score; None where a model is scored.
        allow_partial: score the examples that the file and the split share.
        submission: write the leaderboard's file.
        split: the split; None takes the task's own.
        table: the user's table in place of a split, whose name the output folder gets.
        max_eval_samples: size of a seeded subset; None takes all.
        ids: the examples to score, as texts; None takes all.
        seed: seed of the subset and of drawn answers.
        num_workers: processes that read images, or `auto`.
        on_bad_image: whether an image that cannot be read is an error or skipped.
        batch_size: examples answered at once; `auto` takes as many as memory bears.
        decoding: settings of `models.base.Decoding` by name; the run's or the task's where absent.
        prompt: settings of the prompt.
        metrics: what is measured beside the official metrics.
        device: where CLIP runs.
        output_dir: folder of the results; None takes the default.
        resume: go on with the answers that an interrupted evaluation left.
        command: what to type for the same answers again, for the record.
    """

    task: Task
    source: Source
    model: ModelRequest | None = None
    predictions: Path | None = None
    allow_partial: bool = False
    submission: bool = False
    split: str | None = None
    table: Path | None = None
    max_eval_samples: int | None = None
    ids: tuple[str, ...] | None = None
    seed: int = 0
    num_workers: int | Auto = "auto"
    on_bad_image: OnBadImage = "error"
    batch_size: int | Auto = "auto"
    decoding: Mapping[str, Any] = field(default_factory=dict)
    prompt: PromptRequest = field(default_factory=PromptRequest)
    metrics: MetricsRequest = field(default_factory=MetricsRequest)
    device: str = "auto"
    output_dir: Path | None = None
    resume: bool = False
    command: str | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.predictions is None):
            raise ValueError(
                "Pass either --model_path, a model to be scored, or --predictions, a file of "
                "answers."
            )
        if self.predictions is not None and self.on_bad_image == "skip":
            raise ValueError(
                "--on_bad_image skip would change nothing: --predictions scores a file, and its "
                "answers are kept; leave it out."
            )
        if self.ids is not None and self.max_eval_samples:
            raise ValueError(
                "--ids and --max_eval_samples both choose the examples; leave one of them out."
            )
        if self.submission and (self.max_eval_samples or self.ids is not None):
            name = "--ids" if self.max_eval_samples is None else "--max_eval_samples"
            raise ValueError(f"--submission takes the whole split; leave out {name}.")

    @property
    def opens_images(self) -> bool:
        """Return True where a model, CLIP or the gallery is shown the images."""
        metrics = self.metrics
        return self.predictions is None or bool(metrics.clip_model or metrics.num_viz_samples)
