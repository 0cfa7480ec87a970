"""One training step of ours beside those of the stock Trainer (and of TRL's), in one run.

    python benchmarks/train_step.py --device cuda         # PaliGemma-3B at true shapes
    python benchmarks/train_step.py --device cpu          # a small model, the true vocabulary
    python benchmarks/train_step.py --device cpu --trl    # beside TRL too, fetched by pip
    python benchmarks/train_step.py --device cpu --float64 --batch_sizes 1  # exact gradients
    python benchmarks/train_step.py --tiny --device cuda  # the embedded model, on a CPU: a try

Memory and speed depend on the shapes alone, so random weights give true figures. Both trainers get
the same model, LoRA, batches and precision; each recomputes activations in its own way. `compiled`
is ours with `--compile`, and `planned_gib` the peak that our plan predicted. Of the CPU's rows
`train_step_cpu.py` tells.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, get_args

import click
import torch
from paligemma_3b import (
    NUM_ANSWER_TOKENS,
    RandomExamples,
    empty_cache,
    load,
    step_flops,
)
from step_trainers import MAKERS, StepTimes
from train_step_cpu import print_cpu_table

from common.json_files import write_json
from common.terminal_table import align
from finetuning.training.operations import matrix_speed
from finetuning.training.recipe import Recipe
from models.loading import LoadedModel
from models.quantization import Quantization

WARMUP_STEPS = 3
# compiled and recomputed at once, torch 2.11 fails an assertion of its own
WAYS = ((True, "ours"), (True, "stock"), (False, "ours"), (False, "stock"), (False, "compiled"))
HEAD = ("px", "base", "batch", "recompute", "trainer")
FIGURES = ("planned_gib", "peak_gib", "above_gib", "ms", "examples_s", "mfu", "limit_ms", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table: the size, and how it is trained."""

    image_size: int
    quantization: Quantization
    batch_size: int
    recompute: bool
    trainer: str


def run_case(case: Case, loaded: LoadedModel, num_steps: int, ceiling: float) -> dict[str, Any]:
    """Train a few steps and return the row: memory in GiB, the median step, the first loss."""
    recipe = Recipe(
        batch_size=case.batch_size,
        max_steps=num_steps,
        save_steps=10 * num_steps,
        logging_steps=1,
        loss_reduction="token",
        gradient_checkpointing="on" if case.recompute else "off",
        compile=case.trainer == "compiled",
    )
    config = loaded.model.config
    examples = RandomExamples(config, 2 * case.batch_size)
    empty_cache()
    weights = torch.cuda.memory_allocated() / 2**30 if ceiling else 0.0
    with tempfile.TemporaryDirectory() as folder:
        make = MAKERS["stock" if case.trainer == "stock" else "ours"]
        trainer = make(loaded, examples, recipe, Path(folder))
        times = StepTimes()
        trainer.add_callback(times)
        empty_cache()
        try:
            trainer.train()
        except torch.OutOfMemoryError:
            figures = dict.fromkeys(FIGURES)
        else:
            seconds = median(times.seconds[WARMUP_STEPS:])
            peak = torch.cuda.max_memory_allocated() / 2**30 if ceiling else 0.0
            flops = step_flops(config, case.batch_size, case.recompute, recipe.lora_rank)
            figures = {
                "planned_gib": trainer.plan.peak.total / 2**30 if case.trainer != "stock" else 0.0,
                "peak_gib": peak,
                "above_gib": peak - weights,
                "ms": 1000 * seconds,
                "examples_s": case.batch_size / seconds,
                "mfu": flops / seconds / ceiling if ceiling else 0.0,
                "limit_ms": 1000 * flops / ceiling if ceiling else 0.0,
                "loss": float(trainer.state.log_history[0]["loss"]),
            }
        for module in trainer.model.modules():
            module._compiled_call_impl = None
        trainer.model.unload()
        trainer.model.disable_input_require_grads()
        trainer.model.activation_checkpointing_disable()
        del trainer
    empty_cache()
    base = "bf16" if case.quantization == "none" else case.quantization
    recompute = "on" if case.recompute else "off"
    cells = (case.image_size, base, case.batch_size, recompute, case.trainer)
    return dict(zip(HEAD, cells, strict=True)) | figures


def rows_of(
    tiny: bool, sizes: list[int], bases: list[Quantization], batches: list[int], num_steps: int
) -> Iterator[dict[str, Any]]:
    """Measure case by case, the model loaded once for all cases of a size and base."""
    ceiling = 0.0 if tiny else matrix_speed(torch.device("cuda"), torch.bfloat16)
    if ceiling:
        click.echo(f"matrix product 8192: {ceiling / 1e12:.0f} TFLOP/s")
    ways = WAYS[:-1] if tiny else WAYS  # compiling for a CPU takes minutes
    for size, base in product(sizes, bases):
        loaded = load(tiny, size, base)
        for batch, (recompute, trainer) in product(batches, ways):
            case = Case(
                image_size=size,
                quantization=base,
                batch_size=batch,
                recompute=recompute,
                trainer=trainer,
            )
            yield run_case(case, loaded, num_steps, ceiling)
        del loaded
        empty_cache()


def shown(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row; out of memory where it has no figures."""
    cells = [str(row[name]) for name in HEAD]
    if row["ms"] is None:
        return [*cells, "out of memory", *[""] * (len(FIGURES) - 1)]
    return [*cells, *(f"{row[name]:.{5 if name == 'loss' else 2}f}" for name in FIGURES)]


@click.command()
@click.option("--device", type=click.Choice(("auto", "cuda", "cpu")), default="auto")
@click.option("--tiny", is_flag=True, help="Take the embedded model, to try the script on a CPU.")
@click.option("--image_sizes", default="448,224", show_default=True, help="Take these sizes.")
@click.option("--bases", default="nf4,none", show_default=True, help="Hold the base in these.")
@click.option("--batch_sizes", help="Take these batches.  [default: 4,8,16; on a CPU 1,4]")
@click.option("--num_steps", type=int, help="Take so many steps.  [default: 12; on a CPU 2]")
@click.option("--trl", "with_trl", is_flag=True, help="Add TRL's SFTTrainer, on a CPU.")
@click.option("--float64", "with_float64", is_flag=True, help="Add stock and ours in float64.")
@click.option("--rounds", default=5, show_default=True, help="Measure so often, on a CPU.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(
    device: str,
    tiny: bool,
    image_sizes: str,
    bases: str,
    batch_sizes: str | None,
    num_steps: int | None,
    with_trl: bool,
    with_float64: bool,
    rounds: int,
    output: Path | None,
) -> None:
    """Print peak memory, step time and share of the device's peak of the trainers."""
    has_gpu = torch.cuda.is_available()
    on_cpu = device == "cpu" or (device == "auto" and not has_gpu)
    num_unmeasured = 1 if on_cpu else WARMUP_STEPS
    if num_steps is not None and num_steps <= num_unmeasured:
        raise click.UsageError(f"Of --num_steps the first {num_unmeasured} are not measured.")
    if on_cpu:
        batches = list(map(int, (batch_sizes or "1,4").split(",")))
        others = {"trl": with_trl, "float64": with_float64, "ours64": with_float64}
        added = [name for name, is_added in others.items() if is_added]
        print_cpu_table(tiny, batches, rounds, num_steps or 2, added, output)
        return
    if not tiny and not has_gpu:
        raise click.UsageError("No GPU is visible to PyTorch; --tiny tries the script on a CPU.")
    batches = list(map(int, (batch_sizes or "4,8,16").split(",")))
    name = "CPU" if tiny else torch.cuda.get_device_name()
    click.echo(f"torch {torch.__version__}, {name}, LoRA r 16, {NUM_ANSWER_TOKENS} answer tokens")
    kinds: list[Quantization] = [k for k in get_args(Quantization) if k in bases.split(",")]
    sizes = [224] if tiny else list(map(int, image_sizes.split(",")))
    rows = []
    for row in rows_of(tiny, sizes, kinds, batches, num_steps or 12):
        rows.append(row)
        click.echo("  ".join(shown(row)))  # at once: a later row may run out of time
        if output is not None:
            write_json(output, {"device": name, "rows": rows})
    click.echo("\n" + align([[*HEAD, *FIGURES], *map(shown, rows)], left=(0, 1, 3, 4)))


if __name__ == "__main__":
    main()
