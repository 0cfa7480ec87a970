"""`palitune doctor`: what there is to train with, and whether a model is fed as it should be."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.quantization import MAX_ROUND_TRIP_ERROR, Quantization, check_available
from palitune import options
from palitune.options import Command, Option
from tasks.registry import get_task, task_names
from tasks.splits import resolve_split

if TYPE_CHECKING:
    from finetuning.training.probes import Conversation
    from models.base import Family

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
_NUM_EXAMPLES = 2
# Not int8: it rounds a token by what else is in the batch, so that no logit is ever the same.
_EXACT: tuple[Quantization, ...] = ("nf4", "none")


def doctor_command() -> click.Command:
    """The command that tells whether a model can be trusted to train here."""
    parameters: list[click.Parameter] = [
        options.model_option(required=True),
        options.revision_option(),
        *options.family_options(),
        Option(
            ["--quantization"],
            group="Model",
            type=click.Choice(_EXACT),
            default="nf4",
            show_default=True,
            help="Precision of the language model.",
        ),
        options.device_option(),
        Option(
            ["--task"],
            group="Data",
            help=f"Probe with its examples: one of {', '.join(task_names())} "
            "[default: two drawn pictures].",
        ),
        *options.source_options(),
        *options.table_options("csv"),
        *options.own_file_options(*task_names()),
    ]
    return Command(
        "doctor",
        params=parameters,
        callback=_doctor,
        help="Show what there is to train with, then probe a model: are the labels right, does "
        "padding or the batch change anything, does an answer leak, does it train in 4 bits. "
        "Exit code 0 if all is well.",
    )


def _doctor(**values: Any) -> None:
    from models.checkpoint import resolve
    from models.loading import choose_device, load_family, load_model

    device = choose_device(values["device"])
    if values["task"]:
        get_task(values["task"])
    checkpoint = resolve(
        values["model_path"],
        revision=values["revision"],
        model_type=values["model_type"],
        options=options.make_family_options(values),
    )
    for name, text in environment(device).items():
        click.echo(f"{name:<12}  {text}")
    family = load_family(checkpoint)
    conversations = _examples(family, values) if values["task"] else drawn_conversations()
    # An adapter's base is probed, by the adapter's processor. In fp32 a fault is no rounding.
    loaded = load_model(
        replace(checkpoint, adapter=None),
        quantization=values["quantization"],
        dtype="fp32",
        device=device,
        family=family,
    )
    click.echo(f"{'model':<12}  {checkpoint.base}, fed as {family.name}")

    from finetuning.training.probes import PROBES, run_probe

    failed = []
    for name in PROBES:
        finding = run_probe(name, loaded, conversations)
        if not finding.passed:
            failed.append(name)
        verdict = click.style("pass", fg="green") if finding.passed else click.style("FAIL", "red")
        click.echo(f"{verdict}  {name:<12}  {finding.reason}")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(PROBES)} probes failed ({', '.join(failed)}): a training or a "
            f"score of {values['model_path']} cannot be trusted here; report it with the lines "
            "above."
        )


def environment(device: str) -> dict[str, str]:
    """What a training stands on, each by a line; `device` as torch names it."""
    return {
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "device": _device(device),
        "4-bit": _four_bit(device),
        "Java": _java(),
        "Hub": _hub(),
        "disk": _disk(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _device(device: str) -> str:
    import torch

    if device == "cpu":
        num_gpus = torch.cuda.device_count()
        return f"CPU, {torch.get_num_threads()} threads; PyTorch sees {num_gpus} NVIDIA GPUs"
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{device}, {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def _four_bit(device: str) -> str:
    from models.quantization import round_trip_error

    try:
        check_available("nf4")
        error = round_trip_error(64, device)
    except (OSError, RuntimeError, ValueError) as fault:
        return f"does not work here: {fault}"
    works = "works" if error <= MAX_ROUND_TRIP_ERROR else "does not work here"
    return (
        f"{works}: weights come back with an error of {error:.3f}, at most {MAX_ROUND_TRIP_ERROR}"
    )


def _java() -> str:
    without = "caption scores would be approximate"
    if shutil.which("java") is None:
        return f"none: {without}"
    done = subprocess.run(["java", "-version"], capture_output=True, text=True)
    first = (done.stderr.splitlines() or [""])[0]
    return first if done.returncode == 0 else f"does not start ({first}): {without}"


def _hub() -> str:
    from huggingface_hub import constants, get_token

    login = "logged in" if get_token() else "not logged in, gated models cannot be downloaded"
    return f"{login}; HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else login


def _disk() -> str:
    folder = Path("runs").absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    writable = "" if os.access(existing, os.W_OK) else ", not writable"
    return f"{shutil.disk_usage(existing).free / 2**30:.1f} GiB free for {folder}{writable}"


def _examples(family: "Family", values: Mapping[str, Any]) -> "list[Conversation]":
    """The first examples of a shuffle of the task's training split, as training sees them."""
    from evaluation.prompting import make_prompter
    from finetuning.training.probes import Conversation

    task = get_task(values["task"])
    source = options.make_source(task, values)
    dataset, _ = resolve_split(task, None, source, task.train_splits)
    prompter = make_prompter(task, family)
    return [
        Conversation(
            image=example.image.open(),
            messages=prompter.messages(example, task.target(example, 0, 0)),
        )
        for example in dataset.subset(_NUM_EXAMPLES, 0)
    ]


def drawn_conversations() -> "list[Conversation]":
    """Two pictures of other shapes, with questions and answers of other lengths."""
    from PIL import Image, ImageDraw

    from finetuning.training.probes import Conversation

    wide, tall = Image.new("RGB", (320, 200), "navy"), Image.new("RGB", (180, 300), "white")
    ImageDraw.Draw(wide).ellipse((60, 40, 160, 140), fill="orange")
    ImageDraw.Draw(tall).rectangle((30, 90, 150, 210), fill="darkgreen")
    return [
        Conversation(
            image=wide, messages=[("user", "what is it?"), ("assistant", "an orange circle")]
        ),
        Conversation(
            image=tall,
            messages=[("user", "how many shapes are there in the picture?"), ("assistant", "1")],
        ),
    ]
