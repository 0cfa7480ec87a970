"""The reading example: it trains as our own trainer does, step by step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from torch import Tensor

from docs.plain_loop import train
from evaluation.prompting import make_prompter
from finetuning.training.examples import EncodedExamples
from finetuning.training.recipe import Recipe
from finetuning.training.settings import LossReduction
from finetuning.training.trainer import make_trainer
from models.checkpoint import resolve
from models.loading import load_model
from tasks.base import Example, Source
from tasks.digits import Digits

NUM_EXAMPLES = 10  # two batches and a half: the fourth step is in the second epoch
NUM_STEPS = 6
WARMUP_RATIO = 0.3  # two steps


class SpelledDigits(Digits):
    """Digits with two answers for each, of several lengths: a digit alone is always one token."""

    def example(self, row: tuple[int, Any, int]) -> Example:
        """Make the example with a second answer, some longer than others."""
        example = super().example(row)
        digit = example.references[0]
        return replace(example, references=(digit, f"{digit} of them" * (1 + int(digit) % 4)))


def losses_of_the_trainer(reduction: LossReduction, seed: int, folder: Path) -> Sequence[float]:
    recipe = Recipe(
        max_steps=NUM_STEPS,
        batch_size=4,
        learning_rate=1e-3,
        warmup_ratio=WARMUP_RATIO,
        lora_dropout=0.0,
        loss_reduction=reduction,
        dtype="fp32",
        seed=seed,
    )
    task = SpelledDigits()
    loaded = load_model(resolve("tiny"), quantization="nf4", dtype="fp32", device="cpu")
    data = task.load("train", Source()).subset(NUM_EXAMPLES, seed)
    prompter = make_prompter(task, loaded.family)
    examples = EncodedExamples(data, prompter, seed, recipe.answer_sampling)
    trainer = make_trainer(loaded, examples, recipe, folder, None, task.metric)
    losses = []
    compute_loss = trainer.compute_loss

    def record(*args: Any, **kwargs: Any) -> Tensor:
        loss = compute_loss(*args, **kwargs)
        losses.append(loss.item())
        return loss

    trainer.compute_loss = record
    trainer.train()
    return losses


def losses_of_the_plain_loop(seed: int) -> Sequence[float]:
    return train(
        SpelledDigits(),
        num_examples=NUM_EXAMPLES,
        num_steps=NUM_STEPS,
        learning_rate=1e-3,
        warmup_ratio=WARMUP_RATIO,
        lora_dropout=0.0,
        seed=seed,
    )


def test_the_plain_loop_has_the_losses_of_the_trainer_at_each_step(tmp_path: Path) -> None:
    losses = losses_of_the_plain_loop(seed=3)
    assert len(losses) == NUM_STEPS
    # up to float32: the trainer sends the answers' positions alone through the output layer
    assert losses == pytest.approx(losses_of_the_trainer("example", 3, tmp_path), rel=1e-6)


def test_another_rule_of_the_loss_would_be_seen(tmp_path: Path) -> None:
    pairs = zip(
        losses_of_the_plain_loop(seed=3), losses_of_the_trainer("token", 3, tmp_path), strict=True
    )
    assert min(abs(ours / other - 1) for ours, other in pairs) > 1e-3
