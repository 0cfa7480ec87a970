"""PaliGemma-3B at its true shapes through every command: seconds and peak memory of each phase.

    python benchmarks/real_size.py           # 18 GB of disk, 9 GB of memory; on a GPU where one is
    python benchmarks/real_size.py --tiny    # the embedded model's shapes: tries the script out

The checkpoint has random weights in bfloat16, in shards, and the tokenizer of the embedded model:
what the weights are changes neither time nor memory. Each phase is a process of its own, start-up
and loading included.
"""

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from metrics import Cost, measure

from common.json_files import read_json, write_json

ROOT = Path(__file__).parents[1]
IMAGE_SIZE = 224
SHARD_BYTES = 2 * 10**9


@click.group(invoke_without_command=True)
@click.option("--tiny", is_flag=True, help="Take the embedded model's shapes.")
@click.option("--device", default="auto", show_default=True, help="Run on this device.")
@click.option("--folder", type=click.Path(path_type=Path), help="Work here and leave all there.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
@click.pass_context
def main(
    context: click.Context, tiny: bool, device: str, folder: Path | None, output: Path | None
) -> None:
    """Print seconds and peak memory of each phase."""
    if context.invoked_subcommand is not None:
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        click.echo("| phase | s | peak MB | load |\n| --- | --- | --- | --- |")
        for name, cost in phases((folder or Path(temporary)).resolve(), tiny, device):
            load = os.getloadavg()[0]
            click.echo(f"| {name} | {cost.duration_s:.1f} | {cost.peak_mb:.0f} | {load:.1f} |")
            rows.append({"phase": name, "s": cost.duration_s, "MB": cost.peak_mb, "load": load})
            if output is not None:
                write_json(output, {"rows": rows})


def phases(root: Path, tiny: bool, device: str) -> Iterator[tuple[str, Cost]]:
    """Run phase after phase; each but the first needs what an earlier one wrote."""
    base, run, again = root / "base", root / "run", root / "run_again"
    on = ("--device", device)
    yield "make the checkpoint", measure(Path(__file__), "make", base, *["--tiny"] * tiny)
    for quantization in ("none", "nf4"):
        cost = measure(Path(__file__), "load", base, quantization, device)
        yield f"load, {'as stored' if quantization == 'none' else quantization}", cost
    cost = measure(
        ROOT / "finetuning/digits.py",
        *("--model_path", base, "--output_dir", run, "--max_steps", 1, "--batch_size", 1),
        *("--max_train_samples", 8, "--warmup_ratio", 0, "--skip_evaluation", *on),
    )
    yield "one step of training, nf4", cost
    cost = measure(
        ROOT / "eval.py",
        *("--task", "digits", "--model_path", run, "--max_eval_samples", 2, *on),
        *("--output_dir", root / "evaluation"),
    )
    yield "answer two examples, nf4", cost
    shutil.copytree(run, again)
    for export in ("adapter", "full"):
        cost = measure(
            ROOT / "merge_vlm.py",
            *("--base_model", base, "--model_a", run, "--model_b", again, "--mode", "linear"),
            *("--export", export, "--output", root / export),
        )
        yield f"merge two adapters, export {export}", cost


@main.command("make")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--tiny", is_flag=True)
def make_checkpoint(folder: Path, tiny: bool) -> None:
    """Write config, tokenizer, processor, shards and their index."""
    import torch
    from merge_steps import write_base
    from paligemma_3b import paligemma_3b
    from transformers import AutoModelForImageTextToText, PaliGemmaConfig

    from models.checkpoint import TINY

    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.py", "*.safetensors", "pre*"))
    embedded = PaliGemmaConfig.from_pretrained(TINY)
    config = embedded if tiny else paligemma_3b(IMAGE_SIZE)
    for part in (config, config.text_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(part, name, getattr(embedded, name))
    config.image_token_id = embedded.image_token_id
    config.dtype = torch.bfloat16
    config.architectures = embedded.architectures
    config.save_pretrained(folder)
    if not tiny:
        set_image_size(folder / "processor_config.json", IMAGE_SIZE, config)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    sizes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    del sizes["lm_head.weight"]  # tied: not on disk
    shards = split(sizes, SHARD_BYTES if not tiny else SHARD_BYTES // 1000)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_base(folder / file, shard, real=True)
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": places}
    write_json(folder / "model.safetensors.index.json", index)


def set_image_size(file: Path, size: int, config: Any) -> None:
    """Have the processor resize to another size."""
    content = read_json(file)
    settings = content["image_processor"]
    settings["size"] = {"height": size, "width": size}
    settings["image_seq_length"] = (size // config.vision_config.patch_size) ** 2
    write_json(file, content)


def split(sizes: dict[str, tuple[int, ...]], limit: int) -> list[dict[str, tuple[int, ...]]]:
    """Split tensors into shards of at most so many bytes, in their order."""
    shards: list[dict[str, tuple[int, ...]]] = []
    room = 0
    for name, shape in sizes.items():
        num_bytes = 2 * math.prod(shape)
        if num_bytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = shape
        room -= num_bytes
    return shards


@main.command("load")
@click.argument("folder")
@click.argument("quantization")
@click.argument("device")
def load_checkpoint(folder: str, quantization: Any, device: str) -> None:
    """Load the checkpoint as the commands do, in bfloat16 or in 4 bits."""
    from models.checkpoint import resolve
    from models.loading import load_model

    dtype: Any = "bf16" if quantization == "none" else "auto"
    load_model(resolve(folder), quantization=quantization, dtype=dtype, device=device)


if __name__ == "__main__":
    sys.exit(main())
