"""The CPU side of `train_step.py`: each measurement is a process of its own, in turns.

The model has PaliGemma's vocabulary of 257,216, 8 decoder layers of 512 and 1,024 image tokens, in
float32 with random weights. Of the steps all but the first are
timed. Memory is the largest resident set
during training less what is resident before it: what stands above the weights. The gradients are
those of the first step, with B of LoRA filled, so that A has gradients too.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from metrics import measure
from paligemma_3b import RandomExamples, load_from, small_paligemma
from safetensors.torch import load_file, save_file
from step_trainers import MAKERS, StepTimes, largest_difference
from transformers import PaliGemmaForConditionalGeneration

from common.json_files import write_json
from finetuning.training.number_watch import trained
from finetuning.training.recipe import Recipe
from models.checkpoint import resolve
from models.loading import load_model

TOLERANCE = 1e-5  # float32, and sums in another order
HEAD = ("batch", "recompute", "trainer", "s", "MB", "x time", "x memory", "gradients", "load")


class Probe(StepTimes):
    """Times of the steps, memory above what is there at the start, and the first gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: dict[str, torch.Tensor] = {}
        self.start_mb = 0.0

    def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Fill B, then take what is resident for the weights and begin to look for a peak."""
        generator = torch.Generator().manual_seed(0)
        for name, weight in trained(model).items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) / 100)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # glibc keeps what was freed, and it is no weight
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): forget the peak so far
        self.start_mb = resident_mb("VmRSS")

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Keep the first gradients; the step that is timed is another one."""
        if not self.gradients:
            parameters = {n: p for n, p in model.named_parameters() if p.grad is not None}
            self.gradients = {n: p.grad.clone() for n, p in parameters.items()}


def resident_mb(field: str) -> float:
    """Read VmRSS, what is resident now, or VmHWM, the most that was, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


@click.group()
def cli() -> None:
    """Make the model, train it."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def checkpoint(folder: Path) -> None:
    """Write the model."""
    torch.manual_seed(0)
    PaliGemmaForConditionalGeneration(small_paligemma()).save_pretrained(folder)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("trainer")
@click.argument("batch_size", type=int)
@click.argument("recompute", type=bool)
@click.argument("num_steps", type=int)
@click.argument("output", type=click.Path(path_type=Path))
def train(
    folder: Path, trainer: str, batch_size: int, recompute: bool, num_steps: int, output: Path
) -> None:
    """Train some steps in one way; leaves their times, the memory and the first gradients."""
    if folder.is_dir():
        loaded = load_from(folder, "none", "cpu")
    else:
        loaded = load_model(resolve("tiny"), quantization="none", device="cpu")
    recipe = Recipe(
        batch_size=batch_size,
        max_steps=num_steps,
        save_steps=1000,
        logging_steps=1,
        loss_reduction="token",
        lora_dropout=0.0,
        max_grad_norm=1e9,  # the gradients are compared as they are
        gradient_checkpointing="on" if recompute else "off",
        num_workers=0,
    )
    examples = RandomExamples(loaded.model.config, 2 * batch_size)
    probe = Probe()
    with tempfile.TemporaryDirectory() as temporary:
        made = MAKERS[trainer](loaded, examples, recipe, Path(temporary))
        made.add_callback(probe)
        made.train()
    figures = {"s": probe.seconds[1:], "MB": [resident_mb("VmHWM") - probe.start_mb]}
    save_file(probe.gradients, output / f"{trainer}.safetensors")
    write_json(output / f"{trainer}.json", figures)


def print_cpu_table(
    tiny: bool,
    batch_sizes: list[int],
    rounds: int,
    num_steps: int,
    added: list[str],
    output: Path | None,
) -> None:
    """Measure all cases in turns, those of added trainers too, and print a table."""
    trainers = ["stock", *added, "ours"]
    click.echo(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds")
    click.echo(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if "trl" in added:
            fetch_trl(root / "trl")
        folder = root / "model"
        if not tiny:
            measure(Path(__file__), "checkpoint", folder)
        for batch_size, recompute in product(batch_sizes, (False, True)):
            arguments = (batch_size, recompute, num_steps)
            found = measure_in_turns(folder, trainers, arguments, rounds)
            for name in trainers:
                rows.append(make_row(batch_size, recompute, name, found[name], found["stock"]))
                click.echo(f"| {' | '.join(str(cell) for cell in rows[-1].values())} |")
                if output is not None:
                    write_json(output, {"device": "CPU", "rows": rows})


def fetch_trl(folder: Path) -> None:
    """Put TRL alone beside our packages, which hold all that it needs; for later processes."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*command, str(folder), "trl"], check=True)
    paths = [os.environ.get("PYTHONPATH"), str(folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)


def measure_in_turns(
    folder: Path, trainers: list[str], arguments: tuple[object, ...], rounds: int
) -> dict[str, dict[str, float]]:
    """Measure each trainer once a round; return the median of each figure.

    Gradients are compared with those in float64 where there are any, else with the stock ones.

    Raises:
        click.ClickException: the gradients differ, so that there is nothing to compare.
    """
    found = {name: {key: list[float]() for key in ("s", "MB", "load")} for name in trainers}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        for _, name in product(range(rounds), trainers):
            measure(Path(__file__), "train", folder, name, *arguments, out)
            row = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
            for key, values in {**row, "load": [os.getloadavg()[0]]}.items():
                found[name][key] += values
        gradients = {name: load_file(out / f"{name}.safetensors") for name in trainers}
    medians = {name: {k: median(v) for k, v in found[name].items()} for name in trainers}
    expected = gradients.get("float64", gradients["stock"])
    for name in trainers:
        difference = largest_difference(gradients[name], expected)
        if difference > TOLERANCE:
            raise click.ClickException(f"The gradients of {name} differ by {difference:.1e}.")
        medians[name]["difference"] = difference
    return medians


def make_row(
    batch_size: int,
    recompute: bool,
    trainer: str,
    figures: dict[str, float],
    stock: dict[str, float],
) -> dict[str, Any]:
    """Return a row of the table; ratios are the stock trainer's figures over these."""
    cells = (
        batch_size,
        "on" if recompute else "off",
        trainer,
        round(figures["s"], 2),
        round(figures["MB"]),
        round(stock["s"] / figures["s"], 2),
        round(stock["MB"] / figures["MB"], 1),
        f"{figures['difference']:.1e}",
        round(figures["load"], 1),
    )
    return dict(zip(HEAD, cells, strict=True))


if __name__ == "__main__":
    cli()
