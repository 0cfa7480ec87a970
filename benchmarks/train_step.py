"""One training step of PaliGemma-3B on a GPU: ours beside the stock Trainer's, in one run.

    python benchmarks/train_step.py           # true shapes, random weights, one GPU
    python benchmarks/train_step.py --tiny    # the embedded model, on a CPU: tries the script out

Memory and speed depend on the shapes alone, so random weights give true figures. Both trainers get
the same model, LoRA, batches and precision; each recomputes activations in its own way. `compiled`
is ours with `torch.compile` on each decoder layer, which the trainer does not offer yet.
"""

import tempfile
import time
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
from transformers import Trainer, TrainerCallback, TrainingArguments

from common.json_files import write_json
from common.terminal_table import align
from finetuning.training.lora import add_lora
from finetuning.training.recipe import Recipe
from finetuning.training.trainer import AnswerTrainer, make_trainer
from models.loading import LoadedModel
from models.quantization import Quantization

WARMUP_STEPS = 3
# compiled and recomputed at once, torch 2.11 fails an assertion of its own
WAYS = ((True, "ours"), (True, "stock"), (False, "ours"), (False, "stock"), (False, "compiled"))
HEAD = ("px", "base", "batch", "recompute", "trainer")
FIGURES = ("peak_gib", "above_gib", "ms", "examples_s", "mfu", "limit_ms", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the table: the size, and how it is trained."""

    image_size: int
    quantization: Quantization
    batch_size: int
    recompute: bool
    trainer: str


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


def measure_ceiling() -> float:
    """Measure the operations per second of a large bf16 matrix product on this GPU."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in "ab")
    times = []
    for _ in range(13):
        start = now()
        left @ right
        times.append(now() - start)
    return 2 * 8192**3 / median(times[3:])


def make(case: Case, loaded: LoadedModel, examples: Any, recipe: Recipe, folder: Path) -> Any:
    """Make the trainer of a case."""
    if case.trainer != "stock":
        trainer = make_trainer(loaded, examples, recipe, folder, None, "none")
        if case.trainer == "compiled":
            for layer in loaded.model.get_submodule(loaded.family.language_model).layers:
                layer.compile()
        return trainer
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.max_steps or 1,
        per_device_train_batch_size=case.batch_size,
        learning_rate=recipe.learning_rate,
        bf16=loaded.model.device.type == "cuda",
        activation_checkpointing=case.recompute,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        remove_unused_columns=False,
        disable_tqdm=True,
        save_strategy="no",
        seed=recipe.seed,
        report_to="none",
        use_cpu=loaded.model.device.type == "cpu",
    )
    return StockTrainer(
        model=add_lora(loaded.model, loaded.family, recipe),
        args=arguments,
        train_dataset=examples,
        data_collator=loaded.family.collate,
    )


def run_case(case: Case, loaded: LoadedModel, num_steps: int, ceiling: float) -> dict[str, Any]:
    """Train a few steps and return the row: memory in GiB, the median step, the first loss."""
    recipe = Recipe(
        batch_size=case.batch_size,
        max_steps=num_steps,
        save_steps=10 * num_steps,
        logging_steps=1,
        loss_reduction="token",
        gradient_checkpointing="on" if case.recompute else "off",
    )
    config = loaded.model.config
    examples = RandomExamples(config, 2 * case.batch_size)
    empty_cache()
    weights = torch.cuda.memory_allocated() / 2**30 if ceiling else 0.0
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(case, loaded, examples, recipe, Path(folder))
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
    ceiling = 0.0 if tiny else measure_ceiling()
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
@click.option("--tiny", is_flag=True, help="Take the embedded model, to try the script on a CPU.")
@click.option("--image_sizes", default="448,224", show_default=True, help="Take these sizes.")
@click.option("--bases", default="nf4,none", show_default=True, help="Hold the base in these.")
@click.option("--batch_sizes", default="4,8,16", show_default=True, help="Take these batches.")
@click.option("--num_steps", default=12, show_default=True, help="Take this many steps a row.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(
    tiny: bool, image_sizes: str, bases: str, batch_sizes: str, num_steps: int, output: Path | None
) -> None:
    """Print peak memory, step time and share of the device's peak of both trainers."""
    if not tiny and not torch.cuda.is_available():
        raise click.UsageError("No GPU is visible to PyTorch; --tiny tries the script on a CPU.")
    device = "CPU" if tiny else torch.cuda.get_device_name()
    click.echo(f"torch {torch.__version__}, {device}, LoRA r 16, {NUM_ANSWER_TOKENS} answer tokens")
    kinds: list[Quantization] = [k for k in get_args(Quantization) if k in bases.split(",")]
    sizes = [224] if tiny else list(map(int, image_sizes.split(",")))
    rows = []
    for row in rows_of(tiny, sizes, kinds, list(map(int, batch_sizes.split(","))), num_steps):
        rows.append(row)
        click.echo("  ".join(shown(row)))  # at once: a later row may run out of time
        if output is not None:
            write_json(output, {"device": device, "rows": rows})
    click.echo("\n" + align([[*HEAD, *FIGURES], *map(shown, rows)], left=(0, 1, 3, 4)))


if __name__ == "__main__":
    main()
