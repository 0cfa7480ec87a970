"""Recipe: every setting of a training, its default, its help and its check."""

from dataclasses import dataclass, field, fields
from typing import Any

from finetuning.training.settings import (
    SEEDS,
    LossReduction,
    Recomputation,
    Scheduler,
    check_batch,
    check_generation,
    check_setting,
)
from models.loading import Dtype
from models.quantization import Quantization
from models.settings import Auto
from tasks.answer_choice import AnswerSampling
from tasks.usable import OnBadImage


def setting(default: Any, group: str, help: str, **checks: Any) -> Any:
    """Make a field with what its command line option shows: group, help text, allowed range.

    `also` is another name of the option, `bare` its value where none stands behind it.
    """
    return field(default=default, metadata={"group": group, "help": help, **checks})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a training. A task's script gives its best values; options override them.

    Raises:
        ValueError: a value is out of its range; names the option, the value and the range.
    """

    # --- data
    train_split: str | None = setting(
        None, "Data", "Name of the split to train on [default: the task's]."
    )
    eval_split: str | None = setting(
        None, "Data", "Name of the split to score [default: the task's]."
    )
    max_train_samples: int | None = setting(
        None, "Data", "Train on a seeded subset of this size.", minimum=1
    )
    max_eval_samples: int | None = setting(
        1000, "Data", "Score a seeded subset of this size; eval.py scores all.", minimum=1
    )
    eval_seed: int | None = setting(
        None,
        "Data",
        "Draw the subset of --max_eval_samples by this seed [default: --seed].",
        **SEEDS,
    )
    answer_sampling: AnswerSampling = setting(
        "published",
        "Data",
        "Choose which accepted answer to train on: another one each epoch, or one.",
    )
    prompt_template: str | None = setting(
        None,
        "Data",
        "Use this prompt; {question} stands for the question [default: the task's for the model].",
    )
    system_message: str | None = setting(
        None,
        "Data",
        "Send this system message before the question, to a model whose format has one.",
    )
    max_length: int | None = setting(
        None,
        "Data",
        "Allow this many text tokens an example, images not counted [default: the task's].",
        minimum=8,
    )
    truncate: bool = setting(
        False,
        "Data",
        "Cut prompts that are over --max_length; they are counted, and answers are never cut.",
    )
    num_workers: int | Auto = setting(
        "auto",
        "Data",
        "Read images in this many processes; auto takes one a free processor. With 0, auto's "
        "choice for few images, threads read them between the steps.",
        minimum=0,
    )
    on_bad_image: OnBadImage = setting(
        "error",
        "Data",
        "Stop at an image that cannot be read, or skip: decode all first and leave such out.",
    )
    # --- model
    quantization: Quantization = setting(
        "nf4", "Model", "Hold the frozen language model in this precision."
    )
    dtype: Dtype = setting(
        "auto", "Model", "Compute in this precision; layers that are not quantised are held in it."
    )
    lora_rank: int = setting(16, "Model", "Give the LoRA update this rank.", minimum=1)
    lora_alpha: int = setting(32, "Model", "Scale the LoRA update by alpha / rank.", minimum=1)
    lora_dropout: float = setting(
        0.05, "Model", "Apply this dropout before the LoRA update.", minimum=0, below=1
    )
    lora_target_modules: str = setting(
        "attention,ffn",
        "Model",
        "Adapt these layers of the language model: attention, ffn, all-linear or names, separated "
        "by commas; or one regex of full names.",
    )
    lora_vision: bool = setting(
        False, "Model", "Adapt the same kinds of layers of the vision model too."
    )
    use_dora: bool = setting(False, "Model", "Use DoRA, which learns the magnitudes separately.")
    use_rslora: bool = setting(
        False, "Model", "Scale the LoRA update by alpha / sqrt(rank), as rsLoRA does."
    )
    lora_init_from: str | None = setting(
        None,
        "Model",
        "Start from this adapter, which decides rank, alpha, dropout, layers and DoRA.",
    )
    gradient_checkpointing: Recomputation = setting(
        "auto",
        "Model",
        "Recompute activations, which saves memory and takes time; auto does where memory is "
        "short.",
        bare="on",
    )
    compile: bool = setting(
        False,
        "Model",
        "Compile each decoder layer: faster steps on a GPU after a slow first one.",
    )
    # --- optimisation
    num_epochs: float = setting(
        3, "Optimisation", "Pass over the training data this many times.", also="epochs", above=0
    )
    max_steps: int | None = setting(
        None, "Optimisation", "Stop after this many optimiser steps.", minimum=1
    )
    batch_size: int | Auto = setting(
        4,
        "Optimisation",
        "Train on this many examples per device and micro-batch; auto takes the largest power of "
        "two that fits into memory and divides effective_batch_size.",
        minimum=1,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Optimisation",
        "Accumulate the gradients of this many batches per optimiser step.",
        minimum=1,
    )
    effective_batch_size: int | None = setting(
        None,
        "Optimisation",
        "Keep this many examples per device and optimiser step where batch_size is auto "
        "[default: the task's batch size times gradient_accumulation_steps].",
        minimum=1,
    )
    learning_rate: float = setting(2e-4, "Optimisation", "Use this peak learning rate.", above=0)
    lr_scheduler_type: Scheduler = setting(
        "cosine", "Optimisation", "Change the learning rate along this schedule."
    )
    warmup_steps: int | None = setting(
        None,
        "Optimisation",
        "Warm the learning rate up over this many steps [default: by warmup_ratio].",
        minimum=0,
    )
    warmup_ratio: float = setting(
        0.03,
        "Optimisation",
        "Warm the learning rate up over this share of the steps.",
        minimum=0,
        below=1,
    )
    weight_decay: float = setting(0.0, "Optimisation", "Use this weight decay.", minimum=0)
    optim: str = setting(
        "adamw_torch", "Optimisation", "Use this optimiser, by its name in transformers."
    )
    max_grad_norm: float = setting(
        1.0, "Optimisation", "Clip gradients to this norm; 0 leaves them as they are.", minimum=0
    )
    loss_reduction: LossReduction = setting(
        "example", "Optimisation", "Average the loss per example first, or over all tokens."
    )
    seed: int = setting(0, "Optimisation", "Seed every random choice with this number.", **SEEDS)
    # --- generation
    max_new_tokens: int | None = setting(
        None, "Generation", "Generate at most this many tokens [default: the task's].", minimum=1
    )
    min_new_tokens: int = setting(0, "Generation", "Generate at least this many tokens.", minimum=0)
    num_beams: int | None = setting(
        None,
        "Generation",
        "Search with this many beams; 1 is greedy [default: the task's].",
        minimum=1,
    )
    do_sample: bool = setting(
        False,
        "Generation",
        "Draw each answer at random, by the seed, instead of taking the likeliest.",
    )
    temperature: float = setting(1.0, "Generation", "Draw answers at this temperature.", above=0)
    top_p: float = setting(
        1.0,
        "Generation",
        "Draw answers from the likeliest tokens of this total probability.",
        above=0,
        maximum=1,
    )
    # --- progress
    eval_steps: int | None = setting(
        None, "Progress", "Score every this many steps and keep the best checkpoint.", minimum=1
    )
    eval_epochs: bool = setting(
        False, "Progress", "Score after each epoch and keep the best checkpoint."
    )
    eval_batch_size: int | Auto = setting(
        "auto",
        "Progress",
        "Answer this many examples at once; auto takes as many as memory bears.",
        minimum=1,
    )
    early_stopping_patience: int | None = setting(
        None, "Progress", "Stop when this many scorings in a row were no better.", minimum=1
    )
    save_steps: int | None = setting(
        None,
        "Progress",
        "Save a checkpoint every this many steps [default: each epoch].",
        minimum=1,
    )
    save_total_limit: int = setting(
        2, "Progress", "Keep this many checkpoints beside the best.", minimum=1
    )
    logging_steps: int = setting(10, "Progress", "Log every this many steps.", minimum=1)
    skip_evaluation: bool = setting(False, "Progress", "Leave out the scoring after training.")
    num_viz_samples: int = setting(
        0, "Progress", "Draw this many of the scored answers as images.", minimum=0
    )
    report_to: str = setting(
        "none", "Progress", "Report to tensorboard, wandb, trackio, mlflow, or several by comma."
    )
    wandb_project: str | None = setting(
        None,
        "Progress",
        "Report to this Weights & Biases project [default: $WANDB_PROJECT, else palitune].",
    )
    # --- metrics
    clip_model: str | None = setting(
        None, "Metrics", "Add CLIP-S and RefCLIP-S by this CLIP model, a folder or Hub id."
    )
    images_budget: float = setting(
        5.0,
        "Metrics",
        "Put at most this many MB of images into report.html; 0 puts none.",
        minimum=0,
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            check_setting(entry.name, getattr(self, entry.name), entry.metadata, entry.type)
        if self.early_stopping_patience and not self.evaluates_during_training:
            raise ValueError(
                "early_stopping_patience needs eval_steps or eval_epochs: how often to score."
            )
        if self.eval_epochs and (self.eval_steps or self.save_steps):
            raise ValueError(
                "eval_epochs scores and saves once an epoch; leave out eval_steps and save_steps."
            )
        if self.compile and self.gradient_checkpointing == "on":
            raise ValueError(
                "compile and gradient_checkpointing on do not go together; leave one of them out."
            )
        check_generation(vars(self))
        check_batch(self.batch_size, self.gradient_accumulation_steps, self.effective_batch_size)
        if self.warmup_steps and self.lr_scheduler_type == "constant":
            raise ValueError(
                "warmup_steps has no effect on a constant learning rate; take lr_scheduler_type "
                "constant_with_warmup, or leave it out."
            )

    @property
    def evaluates_during_training(self) -> bool:
        """Return True where training stops to score and keeps the best checkpoint."""
        return self.eval_epochs or self.eval_steps is not None

    @property
    def scoring_seed(self) -> int:
        """Return the seed that chooses the examples to score, where they are a subset."""
        return self.seed if self.eval_seed is None else self.eval_seed


ALL = tuple(entry.name for entry in fields(Recipe))
