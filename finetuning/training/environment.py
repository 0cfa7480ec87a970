"""The machine that a training stands on: versions, device, 4-bit, Java, Hub, disk."""

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.quantization import MAX_ROUND_TRIP_ERROR, check_available

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


def environment(device: str) -> dict[str, str]:
    """Return one line for each thing that a training stands on.

    Args:
        device: as torch names it.
    """
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
