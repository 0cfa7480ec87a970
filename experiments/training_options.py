"""The training section of a YAML file, with the names of `transformers.TrainingArguments`.

https://huggingface.co/docs/transformers/main_classes/trainer
"""

from typing import Any, Literal

import msgspec

from finetuning.training.recipe import Scheduler


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of training and answers; None is the task's or the library's default."""

    num_train_epochs: float | None = None
    max_steps: int | None = None
    per_device_train_batch_size: int | None = None
    per_device_eval_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_ratio: float | None = None
    warmup_steps: int | None = None
    lr_scheduler_type: Scheduler | None = None
    logging_steps: int | None = None
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    eval_steps: int | None = None
    save_strategy: Literal["no", "steps", "epoch"] = "epoch"
    save_steps: int | None = None
    save_total_limit: int | None = None
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    gradient_checkpointing: bool | None = None
    max_grad_norm: float | None = None
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    max_length: int | None = None
    seed: int | None = None
    generation_max_new_tokens: int | None = None
    generation_min_new_tokens: int | None = None
    generation_num_beams: int | None = None
    generation_do_sample: bool = False
    generation_temperature: float | None = None
    generation_top_p: float | None = None


def training_options(training: Training, torch_dtype: str = "auto") -> dict[str, Any]:
    """Return the options of a training command that say the same; None where it says nothing.

    Args:
        training: as the file has it.
        torch_dtype: the model's, where no mixed precision is asked for.
    """
    dtypes = {"no": "fp32", "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    precision = training.mixed_precision or torch_dtype
    recomputation = {None: None, True: "on", False: "off"}
    options = {
        "num_epochs": training.num_train_epochs,
        "batch_size": training.per_device_train_batch_size,
        "eval_batch_size": training.per_device_eval_batch_size,
        "eval_epochs": training.eval_strategy == "epoch",
        # by the rule of TrainingArguments, whose names these are
        "eval_steps": (training.eval_steps or training.logging_steps or 500)
        if training.eval_strategy == "steps"
        else None,
        "save_steps": (training.save_steps or 500) if training.save_strategy == "steps" else None,
        "dtype": dtypes.get(precision, precision),
        "gradient_checkpointing": recomputation[training.gradient_checkpointing],
    }
    same = (
        *("max_steps", "gradient_accumulation_steps", "learning_rate", "weight_decay"),
        *("lr_scheduler_type", "warmup_steps"),
        *("warmup_ratio", "logging_steps", "save_total_limit", "max_grad_norm", "max_length"),
        *("max_train_samples", "max_eval_samples", "seed"),
    )
    return (
        options | {name: getattr(training, name) for name in same} | _generation_options(training)
    )


def _generation_options(training: Training) -> dict[str, Any]:
    prefix = "generation_"
    names = [field.name for field in msgspec.structs.fields(Training)]
    return {n.removeprefix(prefix): getattr(training, n) for n in names if n.startswith(prefix)}
