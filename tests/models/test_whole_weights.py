"""A model is loaded whole, or not at all: the library fills gaps with random numbers."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import resolve
from models.loading import load_model
from tests.models.tiny_families import NAMES, maker

TINY = Path(__file__).parents[2] / "models" / "tiny"
NORM = "model.language_model.layers.0.input_layernorm.weight"  # the model's name for it
STORED = "language_model.model.layers.0.input_layernorm.weight"


def changed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """A copy of the embedded model with other tensors in its file."""
    shutil.copytree(TINY, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(folder: Path) -> None:
    load_model(resolve(str(folder)), quantization="none", device="cpu")


def test_a_missing_weight_is_refused_by_name(tmp_path: Path) -> None:
    folder = changed(tmp_path / "base", lambda tensors: tensors.pop(STORED))
    with pytest.raises(ValueError, match=rf"^The weights of \S+ lack 1 of the model's, {NORM} "):
        load(folder)


def test_renamed_weights_are_refused_with_the_names_found(tmp_path: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if "down_proj" in key]:
            tensors[key.replace("down_proj", "DOWN")] = tensors.pop(key)

    folder = changed(tmp_path / "base", rename)
    with pytest.raises(ValueError, match=r"lack 4 of .+; 4 have other names, as \S+0\.mlp\.DOWN"):
        load(folder)


def test_a_weight_of_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    folder = changed(tmp_path / "base", lambda tensors: tensors.update({STORED: torch.ones(7)}))
    with pytest.raises(ValueError, match=rf"do not fit in 1: {NORM} is \(7,\), .+ \(128,\)"):
        load(folder)


def test_a_weight_too_many_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = changed(tmp_path / "base", lambda tensors: tensors.update(extra=torch.ones(7)))
    with caplog.at_level(logging.WARNING):
        load(folder)
    (line,) = [r.getMessage() for r in caplog.records if "no place" in r.getMessage()]
    assert "no place for 1 weights of" in line and "extra first" in line


def test_weights_that_nothing_reads_may_be_missing(tmp_path: Path) -> None:
    maker("llava")(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    last = max(
        key.split("layers.")[1][0] for key in tensors if "vision_tower" in key and "layers." in key
    )
    unread = [k for k in tensors if "vision_tower" in k and f"layers.{last}." in k]
    for key in unread:  # features are taken of the layer before
        del tensors[key]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert unread
    load(tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "is not valid JSON"),
        ('{"weight_map": {"a": 5}}', "has no weight_map of files"),
        ('{"weight_map": []}', "has no weight_map of files"),
        ('{"weight_map": {"a": "b"}}', "cannot be read"),
    ],
)
def test_a_damaged_index_of_shards_is_refused(tmp_path: Path, index: str, said: str) -> None:
    shutil.copytree(TINY, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "part.safetensors")
    (tmp_path / "base" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "base")


@pytest.mark.parametrize("name", NAMES)
def test_every_family_lands_whole(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker(name)(tmp_path)
    with caplog.at_level(logging.WARNING):
        load(tmp_path)
    assert not [r for r in caplog.records if "no place" in r.getMessage()]
