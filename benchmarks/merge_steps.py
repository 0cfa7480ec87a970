"""The steps of `merge.py`, each in a process of its own, so that a peak is that of one step."""

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import Tensor, nn

    from merging.algebra.low_rank import LowRank

RANK, ALPHA, DENSITY = 16, 20, 0.3
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


@click.group()
def steps() -> None:
    """Make data, merge by PEFT, measure."""


@steps.command("data")
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


@steps.command("peft")
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
    """Return the linear layers that an adapter is of, with weights that are never touched."""
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


@steps.command("error")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("mode")
@click.argument("written", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def write_error(data: Path, mode: str, written: Path, file: Path) -> None:
    """Compare a written adapter with the update that the mode's rule gives in float64.

    `linear` and `ties` are written out below. Of the other modes, rules on whole adapters or on
    their common core, it is the rule of `merging.algebra.methods` itself, before it is
    rounded to a file.
    """
    from merging.algebra.core import decompose
    from merging.algebra.merge import start_merge
    from merging.algebra.methods import CORE
    from merging.algebra.modes import default_options
    from merging.algebra.reader import read_adapter

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
            module = merged.modules[name]
            cores = decompose(module.updates, module.shape)
            core = CORE[mode](cores.cores, merged.options, min(a.shape))
            exact = cores.q_b @ core @ cores.q_a.T
        else:
            exact = merged.coefficients[0] * a + merged.coefficients[1] * b
        errors.append(float((exact_product(updates[name]) - exact).norm() / exact.norm()))
    file.write_text(json.dumps(max(errors)), encoding="utf-8")


def exact_product(update: "LowRank") -> "Tensor":
    """Return the update as a matrix, (d_out, d_in) float64."""
    return update.scale * (update.b.double() @ update.a.double())


def exact_ties(a: "Tensor", b: "Tensor") -> "Tensor":
    """Merge by TIES at weights 1, https://arxiv.org/abs/2306.01708 section 3; arguments change."""
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


@steps.command("copy")
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


@steps.command("arithmetic")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def do_arithmetic(data: Path, file: Path) -> None:
    """Work out TIES of all modules and throw it away; leaves the seconds that this took."""
    from merging.algebra.merge import start_merge
    from merging.algebra.modes import default_options
    from merging.algebra.reader import read_adapter
    from merging.algebra.threads import one_thread

    adapters = [read_adapter(data / name) for name in "ab"]
    merged = start_merge(adapters, "ties", default_options("ties", len(adapters)))
    start = time.perf_counter()
    with one_thread():
        for name in merged.modules:
            merged.dense(name)
    file.write_text(json.dumps(time.perf_counter() - start), encoding="utf-8")


if __name__ == "__main__":
    steps()
