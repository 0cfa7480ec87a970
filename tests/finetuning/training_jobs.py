"""Short trainings on the digits, and what tests ask of them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.prompting import make_prompter
from finetuning.training.examples import EncodedExamples
from finetuning.training.job import Job
from finetuning.training.recipe import Recipe
from finetuning.training.trainer import AnswerTrainer, make_trainer
from models.loading import LoadedModel
from tasks.base import Source, TaskSource
from tasks.registry import get_task

DIGITS = get_task("digits")
RECIPE = Recipe(batch_size=4, learning_rate=1e-2, lora_rank=4, lora_dropout=0.1, seed=3)


def make(
    loaded: LoadedModel, recipe: Recipe, output_dir: Path, num_examples: int = 8, scorer: Any = None
) -> AnswerTrainer:
    data = DIGITS.load("train", Source()).subset(num_examples, 0)
    prompter = make_prompter(DIGITS, loaded.family)
    examples = EncodedExamples(data, prompter, recipe.seed, recipe.answer_sampling)
    return make_trainer(loaded, examples, recipe, output_dir, scorer, "accuracy")


def job(pico: Path, output_dir: Path, **changes: Any) -> Job:
    recipe = replace(
        RECIPE,
        max_train_samples=24,
        max_eval_samples=4,
        num_epochs=2,
        save_steps=2,
        logging_steps=1,
    )
    fields = {name: changes.pop(name) for name in ("resume", "overwrite") if name in changes}
    return Job(
        tasks=(TaskSource(DIGITS, Source()),),
        model_path=str(pico),
        recipe=replace(recipe, **changes),
        output_dir=output_dir,
        settings={"model_path": str(pico)},
        **fields,
    )


def adapter_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
