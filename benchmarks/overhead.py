"""Our whole training loop beside a loop written by hand in plain PyTorch.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --num_steps 4 --rounds 1 --batch_sizes 2  # tries the script out

The embedded model in 4 bits learns digits. Both sides have the same model, LoRA, batches, loss,
optimiser and schedule, and read, encode and collate the images on the way; ours also logs, watches
the numbers, draws the bar and asks its callbacks. The model is so small that this shows: at 3B it
is lost in the step. Both must have the same losses, or there is no row.
"""

import math
import os
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from common.json_files import write_json
from evaluation.prompting import make_prompter
from finetuning.training.examples import EncodedExamples, EpochSampler
from finetuning.training.lora import add_lora
from finetuning.training.loss import answer_loss, count_items
from finetuning.training.recipe import Recipe
from finetuning.training.trainer import make_trainer
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tasks.base import Source
from tasks.registry import get_task

TOLERANCE = 1e-5
HEAD = ("batch", "ours ms", "plain ms", "ours / plain", "load")


class StepEnds(TrainerCallback):
    """The times at which steps ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time."""
        self.times.append(time.perf_counter())


def train_by_us(
    loaded: LoadedModel, examples: EncodedExamples, recipe: Recipe
) -> tuple[list[float], list[float]]:
    """Train by our trainer; return the time at the end of each step, and the losses."""
    losses: list[torch.Tensor] = []
    ends = StepEnds()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(loaded, examples, recipe, Path(folder), None, "none")
        trainer.add_callback(ends)
        compute_loss = trainer.compute_loss

        def record(*args: Any, **kwargs: Any) -> torch.Tensor:
            loss: torch.Tensor = compute_loss(*args, **kwargs)
            losses.append(loss.detach())
            return loss

        trainer.compute_loss = record  # type: ignore[method-assign]
        trainer.train()
        trainer.model.unload()
    return ends.times, [float(loss) for loss in losses]


def train_plainly(
    loaded: LoadedModel, examples: EncodedExamples, recipe: Recipe
) -> tuple[list[float], list[float]]:
    """Train by a plain loop; returns what `train_by_us` does."""
    model = add_lora(loaded.model, loaded.family, recipe).train()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    is_fused = recipe.optim.endswith("fused")
    optimizer = torch.optim.AdamW(weights, recipe.learning_rate, weight_decay=0.0, fused=is_fused)
    num_steps = recipe.max_steps or 1
    num_warmup = math.ceil(num_steps * recipe.warmup_ratio)

    def share_of_rate(step: int) -> float:
        if step < num_warmup:
            return step / num_warmup
        return 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / (num_steps - num_warmup)))

    schedule = LambdaLR(optimizer, share_of_rate)
    batches = DataLoader(
        examples,
        int(recipe.batch_size),
        sampler=EpochSampler(len(examples), recipe.seed),
        collate_fn=loaded.family.collate,
    )
    times, losses = [], []
    for batch, _ in zip(batches, range(num_steps), strict=False):
        num_items = count_items([batch], recipe.loss_reduction)
        loss = answer_loss(model, batch, num_items, recipe.loss_reduction)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        times.append(time.perf_counter())
    model.unload()
    return times, losses


def compare(batch_size: int, num_steps: int, rounds: int) -> list[object]:
    """Train in both ways by turns; return the row: milliseconds of a step, and ours over plain.

    Raises:
        click.ClickException: the losses differ.
    """
    recipe = Recipe(
        batch_size=batch_size,
        max_steps=num_steps,
        save_steps=10 * num_steps,
        lora_dropout=0.0,
        num_workers=0,
    )
    loaded = load_model(resolve("tiny"), quantization="nf4", dtype="fp32", device="cpu")
    task = get_task("digits")
    data = task.load("train", Source())
    prompter = make_prompter(task, loaded.family)
    examples = EncodedExamples(data, prompter, recipe.seed, recipe.answer_sampling)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    losses: dict[str, list[float]] = {}
    for _, (name, train) in product(
        range(rounds), (("ours", train_by_us), ("plain", train_plainly))
    ):
        ends, losses[name] = train(loaded, examples, recipe)
        seconds[name].append((ends[-1] - ends[0]) / (len(ends) - 1))
    pairs = list(zip(losses["ours"], losses["plain"], strict=True))
    if len(pairs) != num_steps or any(abs(a - b) > TOLERANCE * b for a, b in pairs):
        raise click.ClickException(f"The losses differ: {pairs}.")
    ours, plain = (1000 * median(seconds[name]) for name in ("ours", "plain"))
    # the two of a round ran one after the other: a machine that grows slower has no part in it
    ratio = median(a / b for a, b in zip(*seconds.values(), strict=True))
    load = f"{os.getloadavg()[0]:.1f}"
    return [batch_size, f"{ours:.1f}", f"{plain:.1f}", f"{ratio:.2f}", load]


@click.command()
@click.option("--batch_sizes", default="4,16", show_default=True, help="Take these batches.")
@click.option("--num_steps", default=40, show_default=True, help="Take so many steps a run.")
@click.option("--rounds", default=5, show_default=True, help="Train so often in each way.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(batch_sizes: str, num_steps: int, rounds: int, output: Path | None) -> None:
    """Print milliseconds a step of both loops, all that a step needs included."""
    click.echo(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    rows = []
    for batch_size in map(int, batch_sizes.split(",")):
        cells = compare(batch_size, num_steps, rounds)
        click.echo(f"| {' | '.join(map(str, cells))} |")
        rows.append(dict(zip(HEAD, cells, strict=True)))
        if output is not None:
            write_json(output, {"rows": rows})


if __name__ == "__main__":
    main()
