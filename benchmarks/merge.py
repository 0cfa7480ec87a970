"""Merging two adapters at PaliGemma-3B's shapes: `merge_vlm.py` beside PEFT's own merging.

    python benchmarks/merge.py                                   # two adapters into one
    python benchmarks/merge.py --full                            # and into a full model
    python benchmarks/merge.py --layers 1 --small --only linear  # tries the script out

Adapters are random, rank 16, on the seven projections of each text layer. Each row is a process of
its own, start-up, reading and writing included. PEFT's is `add_weighted_adapter` on empty linear
layers of the same shapes: its memory lacks the base model, which its users have to load. Ratios of
time leave the imports out on both sides.
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from metrics import Cost, measure

if TYPE_CHECKING:
    from torch import Tensor, nn

    from merging.low_rank import LowRank

HERE = Path(__file__)
COMMAND = HERE.parents[1] / "merge_vlm.py"
RANK, ALPHA, DENSITY = 16, 20, 0.3
OURS = ("linear", "balanced", "core_ties", "tsv", "ties")
THEIRS = ("peft-linear", "peft-cat", "peft-svd", "peft-ties_svd")
SLOW = ("peft-svd", "peft-ties_svd")  # an SVD of each whole matrix; on --peft_layers layers
CHECKED = ("k_proj", "q_proj", "down_proj")  # of the first layer, where errors are taken
BLOCK = 1 << 24  # values of random weights, repeated: what they are changes no time

# https://huggingface.co/google/paligemma-3b-pt-224, config.json
TRUE_SHAPES: dict[str, dict[str, Any]] = {
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 257_216,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "image_size": 224,
    },
}
SMALL_SHAPES: dict[str, dict[str, Any]] = {
    "text_config": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 128,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "patch_size": 14,
        "image_size": 28,
    },
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: of OURS, THEIRS, or a part of `--full`.
        cost: of the whole process.
        work_s: seconds of it from the imports' end on.
        is_scaled: whether the times were measured on fewer layers and multiplied.
        error: largest |written - exact| / |exact| of the modules in CHECKED.
    """

    name: str
    cost: Cost
    work_s: float
    is_scaled: bool = False
    error: float | None = None

    def line(self, ours: "Row | None") -> str:
        """The row as it is printed; ratios are its figures over ours."""
        about = "≈ " if self.is_scaled else ""
        cells = [
            self.name,
            f"{about}{self.cost.duration_s:.1f}",
            f"{about}{self.work_s:.1f}",
            f"{self.cost.peak_mb:.0f}",
            "-" if self.error is None else f"{self.error:.1e}",
            "-" if ours is None else f"{self.work_s / ours.work_s:.1f}",
            "-" if ours is None else f"{self.cost.peak_mb / ours.cost.peak_mb:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


@click.group(invoke_without_command=True)
@click.option("--layers", default=18, show_default=True, help="Text layers.")
@click.option("--small", is_flag=True, help="Tiny shapes.")
@click.option("--full", is_flag=True, help="Also TIES into a full model, on a base of real bytes.")
@click.option("--peft_layers", default=1, show_default=True, help="Of PEFT's SVD kinds.")
@click.option("--only", multiple=True, type=click.Choice(OURS + THEIRS), help="Just these rows.")
@click.pass_context
def main(
    context: click.Context,
    layers: int,
    small: bool,
    full: bool,
    peft_layers: int,
    only: tuple[str, ...],
) -> None:
    """Print time, peak memory and error of merging, ours and PEFT's."""
    if context.invoked_subcommand is not None:
        return
    click.echo(f"{layers} layers; load {os.getloadavg()[0]:.1f} at the start")
    click.echo("| merge | s | without imports | MB | error | x time | x memory |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rows: dict[str, Row] = {}
        for name in only or OURS + THEIRS:
            used = min(layers, peft_layers) if name in SLOW else layers
            data = make_data(root, used, small, real=False)
            rows[name] = merge(name, data, root / name, layers / used)
            counterpart = {"peft-ties_svd": "ties"}.get(name, "linear")
            click.echo(rows[name].line(rows.get(counterpart) if name in THEIRS else None))
        if full:
            for line in compare_full(make_data(root, layers, small, real=True)):
                click.echo(line)
    click.echo(f"load {os.getloadavg()[0]:.1f} at the end")


def make_data(root: Path, layers: int, small: bool, *, real: bool) -> Path:
    """The folder with `base`, `a` and `b`, made unless it is there."""
    folder = root / f"{layers}-layers{'-real' if real else ''}"
    if not folder.is_dir():
        flags = [name for name, is_on in (("--small", small), ("--real", real)) if is_on]
        measure(HERE, "data", folder, layers, *flags)
    return folder


def merge(name: str, data: Path, output: Path, times: float) -> Row:
    """Merge in one way, and hold what was written against the exact update."""
    if name in OURS:
        cost, work_s = merge_by_us(name, data, output, "--export", "adapter")
        rule, written = name, output
    else:
        kind = name.removeprefix("peft-")
        cost = measure(HERE, "peft", data, kind, output)
        work_s = read_number(output / "seconds.json")
        cost = Cost(cost.duration_s + (times - 1) * work_s, cost.peak_mb)
        rule, written = "ties" if kind == "ties_svd" else "linear", output / "merged"
    measure(HERE, "error", data, rule, written, output / "error.json")
    return Row(name, cost, times * work_s, times > 1, read_number(output / "error.json"))


def merge_by_us(mode: str, data: Path, output: Path, *options: str) -> tuple[Cost, float]:
    """Run our command; gives what it took, and the seconds from its imports' end on."""
    paths = ["--base_model", data / "base", "--model_a", data / "a", "--model_b", data / "b"]
    cost = measure(COMMAND, *paths, "--mode", mode, "--output", output, *options)
    report = json.loads((output / "merge_report.json").read_text(encoding="utf-8"))
    return cost, report["seconds"]


def read_number(path: Path) -> float:
    """What a process of ours left."""
    return float(json.loads(path.read_text(encoding="utf-8")))


def compare_full(data: Path) -> Iterator[str]:
    """TIES into a full model, beside copying the base and the arithmetic with no file at all."""
    ours = Row("ties, full model", *merge_by_us("ties", data, data / "merged"))
    shutil.rmtree(data / "merged")
    yield ours.line(None)
    steps = []
    for name, step in (("copy of the base", "copy"), ("arithmetic of ties", "arithmetic")):
        cost = measure(HERE, step, data, data / "seconds.json")
        steps.append(Row(name, cost, read_number(data / "seconds.json")))
        yield steps[-1].line(None)
    both = Cost(sum(row.cost.duration_s for row in steps), max(row.cost.peak_mb for row in steps))
    yield Row("copy and arithmetic", both, sum(row.work_s for row in steps)).line(ours)


# What follows runs in processes of its own, so that each peak is that of one piece of work.


@main.command("data", hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("layers", type=int)
@click.option("--small", is_flag=True)
@click.option("--real", is_flag=True)
def make_base_and_adapters(folder: Path, layers: int, small: bool, real: bool) -> None:
    """Write a base and two adapters of it.

    The base of an adapter's export is asked for its shapes alone: unless it is to be `real`, its
    weights are a hole in the file, which takes no disk.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForImageTextToText, PaliGemmaConfig

    shapes = SMALL_SHAPES if small else TRUE_SHAPES
    text = shapes["text_config"] | {"model_type": "gemma", "num_hidden_layers": layers}
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False}
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=vision | shapes["vision_config"],
        projection_dim=text["hidden_size"],
    )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    config.save_pretrained(folder / "base")
    sizes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    del sizes["lm_head.weight"]  # tied: not on disk
    write_base(folder / "base" / "model.safetensors", sizes, real)
    linear = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.language_model.")
    }
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(folder / "base"),
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": r"model\.language_model\..*_proj",
    }
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        tensors = {}
        for module, (d_out, d_in) in linear.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, d_in) / math.sqrt(d_in)
            tensors[f"{key}.lora_B.weight"] = torch.randn(d_out, RANK) / 100
        (folder / name).mkdir()
        save_file(tensors, folder / name / "adapter_model.safetensors")
        (folder / name / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_base(path: Path, sizes: dict[str, tuple[int, ...]], real: bool) -> None:
    """Write bfloat16 weights in the safetensors format, block by block.

    Format: https://huggingface.co/docs/safetensors, "Format".
    """
    import torch

    header, end = {}, 0
    for name, shape in sizes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    free = shutil.disk_usage(path.parent).free
    if real and free < 2.5 * end:  # the base, a merged model or a copy of it, and some room
        raise click.ClickException(
            f"--full needs {2.5 * end / 1e9:.1f} GB of disk at {path.parent}, {free / 1e9:.1f} GB "
            "are free; set TMPDIR to another disk, or take fewer --layers."
        )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if real:
            torch.manual_seed(0)
            block = (torch.randn(BLOCK) / 50).bfloat16().view(torch.uint8).numpy().data
            for start in range(0, end, len(block)):
                file.write(block[: end - start])
        else:
            file.truncate(file.tell() + end)


@main.command("peft", hidden=True)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("kind")
@click.argument("output", type=click.Path(path_type=Path))
def merge_by_peft(data: Path, kind: str, output: Path) -> None:
    """Merge by PEFT; leaves the seconds from the imports' end on.

    Weights and rank are those of our command: 1/2 each, 1 each for TIES, rank 32.
    """
    from peft import PeftModel

    start = time.perf_counter()
    model = PeftModel.from_pretrained(empty_layers(data / "a"), data / "a", adapter_name="a")
    model.load_adapter(data / "b", adapter_name="b")
    is_ties = kind.startswith("ties")
    model.base_model.add_weighted_adapter(
        adapters=["a", "b"],
        weights=[1.0, 1.0] if is_ties else [0.5, 0.5],
        adapter_name="merged",
        combination_type=kind,
        svd_rank=2 * RANK if kind.endswith("svd") else None,
        density=DENSITY if is_ties else None,
    )
    model.save_pretrained(output, selected_adapters=["merged"])
    (output / "seconds.json").write_text(json.dumps(time.perf_counter() - start))


def empty_layers(adapter: Path) -> "nn.Module":
    """The linear layers that an adapter is of, with weights that are never touched."""
    from safetensors import safe_open
    from torch import nn

    root = nn.Module()
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    for key in (key for key in shapes if key.endswith(".lora_A.weight")):
        d_in, d_out = shapes[key][1], shapes[key.replace("lora_A", "lora_B")][0]
        name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        parent, (*path, leaf) = root, name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(leaf, nn.utils.skip_init(nn.Linear, d_in, d_out, bias=False))
    return root


@main.command("error", hidden=True)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("mode")
@click.argument("written", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def write_error(data: Path, mode: str, written: Path, file: Path) -> None:
    """Compare a written adapter with the update that the mode's rule gives in float64.

    `linear` and `ties` are written out below. Of the other modes, rules on whole adapters or on
    their common core, it is the rule of `merging.methods` itself, before it is rounded to a file.
    """
    from merging.adapters import read_adapter
    from merging.merge import start_merge
    from merging.methods import CORE, default_options

    adapters = [read_adapter(data / name) for name in "ab"]
    updates = read_adapter(written).updates
    merged = start_merge(adapters, mode, default_options(mode, len(adapters)))
    errors = []
    for name in (name for name in updates if ".layers.0." in name and name.endswith(CHECKED)):
        a, b = (exact_product(adapter.updates[name]) for adapter in adapters)
        if mode == "linear":
            exact = (a + b) / 2
        elif mode == "ties":
            exact = exact_ties(a, b)
        elif mode in CORE:
            cores = merged.modules[name].cores
            core = CORE[mode](cores.cores, merged.options, min(a.shape))
            exact = cores.q_b @ core @ cores.q_a.T
        else:
            exact = merged.coefficients[0] * a + merged.coefficients[1] * b
        errors.append(float((exact_product(updates[name]) - exact).norm() / exact.norm()))
    file.write_text(json.dumps(max(errors)), encoding="utf-8")


def exact_product(update: "LowRank") -> "Tensor":
    """The update as a matrix, (d_out, d_in) float64."""
    return update.scale * (update.b.double() @ update.a.double())


def exact_ties(a: "Tensor", b: "Tensor") -> "Tensor":
    """TIES at weights 1, https://arxiv.org/abs/2306.01708 section 3; changes its arguments."""
    import numpy as np

    for delta in (a, b):
        magnitudes = np.abs(delta.numpy()).ravel()
        place = magnitudes.size - math.floor(DENSITY * magnitudes.size)
        magnitudes.partition(place)
        delta[delta.abs() < magnitudes[place]] = 0
    sign = (a + b).sign()
    a *= a.sign() == sign
    b *= b.sign() == sign
    return (a + b) / ((a != 0).double() + (b != 0)).clamp(min=1)


@main.command("copy", hidden=True)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def copy_base(data: Path, file: Path) -> None:
    """Copy the base's weights onto the disk, as our export does: not only into the cache."""
    start = time.perf_counter()
    copy = shutil.copyfile(data / "base" / "model.safetensors", data / "copy")
    with copy.open("rb+") as copied:
        os.fsync(copied.fileno())
    file.write_text(json.dumps(time.perf_counter() - start), encoding="utf-8")
    copy.unlink()


@main.command("arithmetic", hidden=True)
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def do_arithmetic(data: Path, file: Path) -> None:
    """Work out TIES of all modules and throw it away; leaves the seconds that this took."""
    from merging.adapters import read_adapter
    from merging.merge import start_merge
    from merging.methods import default_options

    adapters = [read_adapter(data / name) for name in "ab"]
    merged = start_merge(adapters, "ties", default_options("ties", len(adapters)))
    start = time.perf_counter()
    for name in merged.modules:
        merged.dense(name)
    file.write_text(json.dumps(time.perf_counter() - start), encoding="utf-8")


if __name__ == "__main__":
    main()
