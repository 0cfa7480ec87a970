"""A pickle that would run code when it is loaded is refused, and its code is not run."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import resolve
from models.loading import load_model
from tests.helpers import one_sentence


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int, int]]:
        return os.open, (str(self.file), os.O_CREAT, 0o644)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.fixture
def adapter(pico1: Path, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = load_model(resolve(str(pico1)), quantization="none").model
    targets = r".*language_model.*q_proj"
    get_peft_model(model, LoraConfig(target_modules=targets)).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("name", ["adapter_model.bin", "non_lora_trainables.bin"])
@pytest.mark.parametrize("save", [torch.save, lambda x, f: f.write_bytes(pickle.dumps(x))])
def test_an_adapter(name: str, save: Any, adapter: Path, tmp_path: Path) -> None:
    if name == "adapter_model.bin":
        (adapter / "adapter_model.safetensors").unlink()
    save({"a": Trap(tmp_path / "sprung")}, adapter / name)
    with one_sentence(name, "save the adapter as safetensors"):
        load_model(resolve(str(adapter)), quantization="none")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [torch.save, lambda x, f: f.write_bytes(pickle.dumps(x))])
def test_a_base(save: Any, pico1: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(pico1, base)
    (base / "model.safetensors").unlink()
    save({"a": Trap(tmp_path / "sprung")}, base / "pytorch_model.bin")
    with one_sentence("The weights of", "safetensors"):
        load_model(resolve(str(base)), quantization="none")
    assert not (tmp_path / "sprung").exists()
