"""The training section of a YAML file, with the names of `transformers.TrainingArguments`.

https://huggingface.co/docs/transformers/main_classes/trainer
"""

from typing import Any, Literal

import msgspec

from finetuning.training.settings import Scheduler


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

    def __post_init__(self) -> None:
        """Refuse a number of steps that the strategy beside it would leave without effect."""
        for name in ("eval", "save"):
            steps, strategy = getattr(self, f"{name}_steps"), getattr(self, f"{name}_strategy")
            if steps is not None and strategy != "steps":
                raise ValueError(
                    f"{name}_steps {steps} would change nothing, as {name}_strategy is {strategy}; "
                    f"write {name}_strategy: steps, or leave {name}_steps out"
                )


_SAME = {  # as TrainingArguments and LoraConfig call it -> as the command line does
    "epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "mixed_precision": "dtype",
    "torch_dtype": "dtype",
    "r": "lora_rank",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
}
_DTYPES = {"no": "fp32", "bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_GENERATION = "generation_"


def own_name(name: str) -> str:
    """Return what the command line calls a setting of a YAML file."""
    if name in Training.__struct_fields__:
        name = name.removeprefix(_GENERATION)
    return _SAME.get(name, name)


def own_value(name: str, value: Any) -> Any:
    """Return a setting's value as its option takes it.

    Args:
        name: on the command line.
        value: as the file has it.
    """
    if name == "dtype":
        return _DTYPES.get(value, value)
    if name == "gradient_checkpointing" and isinstance(value, bool):
        return "on" if value else "off"
    if name == "lora_target_modules" and isinstance(value, list):
        return ",".join(map(str, value))
    return value


def training_options(training: Training, torch_dtype: str = "auto") -> dict[str, Any]:
    """Return the options of a training command that say the same; None where it says nothing.

    Args:
        training: as the file has it.
        torch_dtype: the model's, where no mixed precision is asked for.
    """
    names = [field.name for field in msgspec.structs.fields(Training)]
    given = {own_name(name): getattr(training, name) for name in names}
    given["dtype"] = training.mixed_precision or torch_dtype
    by_steps = {name: given.pop(f"{name}_strategy") == "steps" for name in ("eval", "save")}
    # by the rule of TrainingArguments, whose names these are
    given |= {
        "eval_epochs": training.eval_strategy == "epoch",
        "eval_steps": (training.eval_steps or training.logging_steps or 500)
        if by_steps["eval"]
        else None,
        "save_steps": (training.save_steps or 500) if by_steps["save"] else None,
    }
    return {name: own_value(name, value) for name, value in given.items()}
