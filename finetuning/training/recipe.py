"""Recipe: every setting of a training, its default, its help and its check."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from models.loading import Dtype
from models.quantization import Quantization
from tasks.base import AnswerSampling

LossReduction = Literal["example", "token"]
ReportTo = Literal["none", "wandb", "tensorboard"]


def setting(default: Any, group: str, help: str, **checks: Any) -> Any:
    """A field with what its command line option shows: group, help text, allowed range.

    `also` is another name of the option.
    """
    return field(default=default, metadata={"group": group, "help": help, **checks})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The task's script gives its best values; options override them.

    Raises:
        ValueError: a value is out of its range; names the option, the value and the range.
    """

    # --- data
    train_split: str | None = setting(None, "Data", "Split to train on [default: the task's].")
    eval_split: str | None = setting(None, "Data", "Split to score [default: the task's].")
    max_train_samples: int | None = setting(
        None, "Data", "Train on a seeded subset of this size.", minimum=1
    )
    max_eval_samples: int | None = setting(
        1000, "Data", "Score a seeded subset of this size; eval.py scores all.", minimum=1
    )
    answer_sampling: AnswerSampling = setting(
        "published", "Data", "Which accepted answer to train on: another one each epoch, or one."
    )
    prompt_template: str | None = setting(
        None, "Data", "Prompt with {question} in it [default: the task's for the model]."
    )
    system_message: str | None = setting(
        None, "Data", "What the model is told before the question, where its format has that."
    )
    max_length: int | None = setting(
        None, "Data", "Text budget in tokens, image not counted [default: the task's].", minimum=8
    )
    truncate: bool = setting(
        False, "Data", "Cut prompts over the budget (counted; answers are never cut)."
    )
    num_workers: int = setting(0, "Data", "Processes that read images.", minimum=0)
    # --- model
    quantization: Quantization = setting("nf4", "Model", "Precision of the frozen language model.")
    dtype: Dtype = setting("auto", "Model", "Precision of the rest and of the arithmetic.")
    lora_rank: int = setting(16, "Model", "Rank of the LoRA update.", minimum=1)
    lora_alpha: int = setting(32, "Model", "LoRA scale: the update counts alpha / rank.", minimum=1)
    lora_dropout: float = setting(
        0.05, "Model", "Dropout before the LoRA update.", minimum=0, below=1
    )
    lora_target_modules: str = setting(
        "attention,ffn",
        "Model",
        "Layers of the language model to adapt: attention, ffn, all-linear or names, commas "
        "between; or one regex of full names.",
    )
    lora_vision: bool = setting(False, "Model", "Adapt such layers of the vision side too.")
    use_dora: bool = setting(False, "Model", "DoRA: learn the magnitudes apart.")
    use_rslora: bool = setting(False, "Model", "Scale by alpha / sqrt(rank).")
    lora_init_from: str | None = setting(
        None, "Model", "Go on from this adapter; its rank, alpha and layers count."
    )
    gradient_checkpointing: bool | None = setting(
        None, "Model", "Recompute activations to save memory [default: on a GPU]."
    )
    # --- optimisation
    num_epochs: float = setting(
        3, "Optimisation", "Passes over the training data.", also="epochs", above=0
    )
    max_steps: int | None = setting(
        None, "Optimisation", "Stop after so many optimiser steps.", minimum=1
    )
    batch_size: int = setting(4, "Optimisation", "Examples per device and step.", minimum=1)
    gradient_accumulation_steps: int = setting(
        1, "Optimisation", "Batches per optimiser step.", minimum=1
    )
    learning_rate: float = setting(2e-4, "Optimisation", "Peak learning rate.", above=0)
    warmup_ratio: float = setting(
        0.03, "Optimisation", "Share of the steps that warm up.", minimum=0, below=1
    )
    weight_decay: float = setting(0.0, "Optimisation", "AdamW weight decay.", minimum=0)
    optim: str = setting("adamw_torch", "Optimisation", "Optimiser, as transformers names it.")
    max_grad_norm: float = setting(1.0, "Optimisation", "Clip gradients to this norm.", above=0)
    loss_reduction: LossReduction = setting(
        "example", "Optimisation", "Average the loss per example first, or over all tokens."
    )
    seed: int = setting(0, "Optimisation", "Seed of every random choice.", minimum=0)
    # --- generation
    max_new_tokens: int | None = setting(
        None, "Generation", "Longest answer [default: the task's].", minimum=1
    )
    min_new_tokens: int = setting(0, "Generation", "Shortest answer, in tokens.", minimum=0)
    num_beams: int | None = setting(
        None, "Generation", "Beams; 1 is greedy [default: the task's].", minimum=1
    )
    do_sample: bool = setting(False, "Generation", "Draw answers, by the seed, where one is best.")
    temperature: float = setting(1.0, "Generation", "Of the draw.", above=0)
    top_p: float = setting(
        1.0, "Generation", "Draw from the likeliest tokens of this mass.", above=0, maximum=1
    )
    # --- progress
    eval_steps: int | None = setting(
        None, "Progress", "Score every so many steps and keep the best checkpoint.", minimum=1
    )
    eval_epochs: bool = setting(
        False, "Progress", "Score after each epoch and keep the best checkpoint."
    )
    eval_batch_size: int | None = setting(
        None, "Progress", "Examples per generated batch [default: twice batch_size].", minimum=1
    )
    early_stopping_patience: int | None = setting(
        None, "Progress", "Stop after so many scorings without a better one.", minimum=1
    )
    save_steps: int | None = setting(
        None, "Progress", "Checkpoint every so many steps [default: each epoch].", minimum=1
    )
    save_total_limit: int = setting(
        2, "Progress", "Checkpoints to keep, the best aside.", minimum=1
    )
    logging_steps: int = setting(10, "Progress", "Log every so many steps.", minimum=1)
    skip_evaluation: bool = setting(False, "Progress", "Do not score what was trained.")
    num_viz_samples: int = setting(
        0, "Progress", "Draw so many of the answers scored, as pictures.", minimum=0
    )
    report_to: ReportTo = setting("none", "Progress", "Where curves are drawn.")
    wandb_project: str = setting("palitune", "Progress", "Weights & Biases project.")
    # --- metrics
    clip_model: str | None = setting(
        None,
        "Metrics",
        "Add CLIP-S and RefCLIP-S by this CLIP, a folder or Hub id; reads the images.",
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check(entry.name, getattr(self, entry.name), entry.metadata, entry.type)
        if self.early_stopping_patience and not self.evaluates_during_training:
            raise ValueError(
                "early_stopping_patience needs eval_steps or eval_epochs: how often to score."
            )
        if self.eval_epochs and (self.eval_steps or self.save_steps):
            raise ValueError(
                "eval_epochs scores and saves once an epoch; leave out eval_steps and save_steps."
            )
        if self.eval_steps and self.save_steps and self.save_steps % self.eval_steps:
            raise ValueError(
                f"save_steps must be a multiple of eval_steps, got {self.save_steps} and "
                f"{self.eval_steps}: the best checkpoint can only be one that was scored."
            )

    @property
    def evaluates_during_training(self) -> bool:
        """Whether training stops to score, and keeps the best checkpoint."""
        return self.eval_epochs or self.eval_steps is not None


ALL = tuple(entry.name for entry in fields(Recipe))


def _check(name: str, value: Any, allowed: Any, kind: Any) -> None:
    if value is None:
        return
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}.")
    if "minimum" in allowed and not value >= allowed["minimum"]:
        raise ValueError(f"{name} must be at least {allowed['minimum']}, got {value}.")
    if "maximum" in allowed and not value <= allowed["maximum"]:
        raise ValueError(f"{name} must be at most {allowed['maximum']}, got {value}.")
    if "above" in allowed and not value > allowed["above"]:
        raise ValueError(f"{name} must be above {allowed['above']}, got {value}.")
    if "below" in allowed and not value < allowed["below"]:
        raise ValueError(f"{name} must be below {allowed['below']}, got {value}.")
