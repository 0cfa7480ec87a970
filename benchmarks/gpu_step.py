"""One training step of PaliGemma-3B in NF4: our loss path beside the stock Trainer's, in one run.

    python benchmarks/gpu_step.py           # true shapes, random weights, one GPU of 24 GiB or more
    python benchmarks/gpu_step.py --tiny    # the embedded model, on a CPU: tries the script out

Memory and speed depend on the shapes alone, so random weights give true figures. Both trainers get
the same model, batches, LoRA and checkpointing; only what happens after the last layer differs.
"""

import gc
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Trainer,
    TrainerCallback,
)

from finetuning.training.recipe import Recipe
from finetuning.training.trainer import AnswerTrainer, make_trainer
from models.checkpoint import resolve
from models.encoding import Encoded
from models.loading import LoadedModel, load_family, load_model

NUM_PROMPT_TOKENS = 48
NUM_ANSWER_TOKENS = 16
WARMUP_STEPS = 2


def paligemma_3b(image_size: int) -> PaliGemmaConfig:
    """Return the config of google/paligemma-3b-pt: Gemma 2B over SigLIP so400m/14."""
    text_config = {
        "model_type": "gemma",
        "vocab_size": 257_216,
        "hidden_size": 2048,
        "intermediate_size": 16_384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
    }
    vision_config = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": image_size,
        "patch_size": 14,
        "projection_dim": 2048,
        "vision_use_head": False,
    }
    return PaliGemmaConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_index=257_152,
        projection_dim=2048,
        hidden_size=2048,
        vocab_size=257_216,
    )


def load(is_tiny: bool, image_size: int) -> LoadedModel:
    """Load the model in NF4, through the loading path that training uses."""
    if is_tiny:
        return load_model(resolve("tiny"), quantization="nf4", device="cpu")
    tiny = resolve("tiny")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            model = PaliGemmaForConditionalGeneration(paligemma_3b(image_size))
        torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        del model
        torch.cuda.empty_cache()
        base = replace(tiny, base=folder, fingerprint=None)
        return load_model(base, quantization="nf4", device="cuda", family=load_family(tiny))


class RandomExamples(torch.utils.data.Dataset[Encoded]):
    """Examples of one length with random tokens and pixels; made once, read without cost."""

    def __init__(self, config: Any, num_examples: int) -> None:
        generator = torch.Generator().manual_seed(0)
        size = config.vision_config.image_size
        num_image = (size // config.vision_config.patch_size) ** 2
        num_text = NUM_PROMPT_TOKENS + NUM_ANSWER_TOKENS
        self.examples = [
            Encoded(
                input_ids=[config.image_token_id] * num_image
                + torch.randint(300, 600, (num_text,), generator=generator).tolist(),
                is_target=[False] * (num_image + NUM_PROMPT_TOKENS) + [True] * NUM_ANSWER_TOKENS,
                image_span=(0, num_image),
                pixels={"pixel_values": torch.rand(3, size, size, generator=generator) * 2 - 1},
            )
            for _ in range(num_examples)
        ]

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, key: Any) -> Encoded:
        index = key if isinstance(key, int) else key[1]
        return self.examples[index % len(self.examples)]


class StepTimes(TrainerCallback):
    """Seconds of each step, the device waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.seconds.append(_now() - self.start)


class StockTrainer(AnswerTrainer):
    """The same loop and order with transformers' own loss."""

    loss_is_scaled_for_ga = None  # type: ignore[assignment]  # as the library has it
    get_batch_samples = Trainer.get_batch_samples
    compute_loss = Trainer.compute_loss


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(trainer: AnswerTrainer, kind: type[AnswerTrainer]) -> tuple[float, float, float]:
    """Measure peak memory in GiB (0 on a CPU), median step in seconds, loss of the first step."""
    trainer.__class__ = kind
    times = StepTimes()
    trainer.add_callback(times)
    if torch.cuda.is_available():
        gc.collect()  # the trainer measured before is full of cycles
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    steady = sorted(times.seconds[WARMUP_STEPS:])
    return peak, steady[len(steady) // 2], float(trainer.state.log_history[0]["loss"])


@click.command()
@click.option("--tiny", is_flag=True, help="The embedded model, to try the script on a CPU.")
@click.option("--batch_size", default=4, show_default=True)
@click.option("--image_size", default=448, show_default=True)
@click.option("--num_steps", default=12, show_default=True)
def main(tiny: bool, batch_size: int, image_size: int, num_steps: int) -> None:
    """Print peak memory, step time and tokens per second of both loss paths."""
    if not tiny and not torch.cuda.is_available():
        raise click.UsageError("No GPU is visible to PyTorch; --tiny tries the script on a CPU.")
    recipe = Recipe(
        batch_size=batch_size, max_steps=num_steps, logging_steps=1, loss_reduction="token"
    )
    click.echo(f"torch {torch.__version__}, {_device_name()}, batch {batch_size}, NF4, LoRA r 16")
    click.echo(f"{'loss path':<10} {'peak GiB':>9} {'ms/step':>9} {'tokens/s':>10} {'loss':>9}")
    found = {}
    for name, kind in (("ours", AnswerTrainer), ("stock", StockTrainer)):
        loaded = load(tiny, image_size)
        examples = RandomExamples(loaded.model.config, 4 * batch_size)
        length = len(examples[0].input_ids)
        with tempfile.TemporaryDirectory() as folder:
            run = replace(recipe, save_steps=10 * num_steps)
            trainer = make_trainer(loaded, examples, run, Path(folder), None, "none")  # type: ignore[arg-type]
            peak, seconds, loss = found[name] = measure(trainer, kind)
        rate = batch_size * length / seconds
        click.echo(f"{name:<10} {peak:>9.2f} {1000 * seconds:>9.1f} {rate:>10.0f} {loss:>9.5f}")
        del loaded, trainer, examples
        gc.collect()
    ours, stock = found["ours"], found["stock"]
    memory = f"{stock[0] / ours[0]:.2f} x the memory, " if ours[0] else ""
    click.echo(f"stock / ours: {memory}{stock[1] / ours[1]:.2f} x the time")


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    main()
