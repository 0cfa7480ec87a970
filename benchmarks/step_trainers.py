"""The trainers of `train_step.py`, on the same model, LoRA, batches and loss."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from finetuning.training.examples import EpochSampler
from finetuning.training.lora import add_lora
from finetuning.training.recipe import Recipe
from finetuning.training.trainer import AnswerTrainer, make_trainer
from models.loading import LoadedModel

Maker = Callable[[LoadedModel, Any, Recipe, Path], Trainer]


class StepTimes(TrainerCallback):
    """Seconds of each step, the device waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.seconds.append(now() - self.start)


class StockTrainer(Trainer):
    """The library's trainer, on examples in our order, so that the losses can be compared."""

    _get_train_sampler = AnswerTrainer._get_train_sampler


def now() -> float:
    """Return the time once the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_ours(loaded: LoadedModel, examples: Any, recipe: Recipe, folder: Path) -> AnswerTrainer:
    """Make the trainer of this project."""
    return make_trainer(loaded, examples, recipe, folder, None, "none")


def make_stock(loaded: LoadedModel, examples: Any, recipe: Recipe, folder: Path) -> Trainer:
    """Make `transformers.Trainer`."""
    return StockTrainer(
        model=add_lora(loaded.model, loaded.family, recipe),
        args=TrainingArguments(**settings(loaded, recipe, folder)),
        train_dataset=examples,
        data_collator=loaded.family.collate,
    )


def in_float64(make: Maker) -> Maker:
    """Return what makes a trainer in float64, but for what models round to float32 themselves."""

    def make_double(loaded: LoadedModel, examples: Any, recipe: Recipe, folder: Path) -> Trainer:
        trainer = make(loaded, examples, recipe, folder)
        trainer.model.double()
        return trainer

    return make_double


def make_trl(loaded: LoadedModel, examples: Any, recipe: Recipe, folder: Path) -> Trainer:
    """Make TRL's SFTTrainer; its examples are ready, so that it has nothing to prepare."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import SFTConfig, SFTTrainer

    class InOrder(SFTTrainer):  # it takes none but a library's data set
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)

    def collate(rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        return loaded.family.collate([examples[0, row["index"]] for row in rows])

    num_examples = (recipe.max_steps or 1) * int(recipe.batch_size)
    order = islice(EpochSampler(len(examples), recipe.seed), num_examples)
    trainer: Trainer = InOrder(
        model=add_lora(loaded.model, loaded.family, recipe),
        args=SFTConfig(
            **settings(loaded, recipe, folder),
            gradient_checkpointing=False,  # as the stock trainer, by `activation_checkpointing`
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_dict({"index": [index for _, index in order]}),
        data_collator=collate,
        processing_class=loaded.family.tokenizer,
    )
    return trainer


def settings(loaded: LoadedModel, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the recipe as arguments of the library's trainer."""
    return {
        "output_dir": str(folder),
        "max_steps": recipe.max_steps or 1,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": loaded.model.device.type == "cuda",
        "activation_checkpointing": recipe.gradient_checkpointing == "on",
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "logging_steps": 1,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "seed": recipe.seed,
        "report_to": "none",
        "use_cpu": loaded.model.device.type == "cpu",
    }


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the largest |found - expected| / |expected| of the gradients.

    Raises:
        ValueError: other parameters have gradients, or one of them is zero.
    """
    if found.keys() != expected.keys() or not all(map(torch.any, expected.values())):
        raise ValueError("The trainers do not train the same parameters.")
    return max(
        float((found[name] - gradient).norm() / gradient.norm())
        for name, gradient in expected.items()
    )


MAKERS: dict[str, Maker] = {
    "ours": make_ours,
    "stock": make_stock,
    "trl": make_trl,
    "float64": in_float64(make_stock),
    "ours64": in_float64(make_ours),
}
