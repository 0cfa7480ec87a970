"""The identity of a base is that of its weights, not of its files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.fingerprint import fingerprint, same_weights
from tests.helpers import REPOSITORY

TINY = REPOSITORY / "models" / "tiny"
CONFIG = json.loads((TINY / "config.json").read_text())
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return load_file(TINY / "model.safetensors")


def of_one_file(tensors: Tensors, folder: Path) -> Path:
    save_file(tensors, folder / "model.safetensors")
    return folder


def of_shards(tensors: Tensors, folder: Path) -> Path:
    names = sorted(tensors)
    for number in range(3):
        part = {name: tensors[name] for name in names[number::3]}
        save_file(part, folder / f"model-{number}.safetensors", metadata={"format": "pt"})
    return folder


def pickled(tensors: Tensors, folder: Path) -> Path:
    names = sorted(tensors, reverse=True)
    torch.save({name: tensors[name] for name in names[:40]}, folder / "pytorch_model-1.bin")
    torch.save({name: tensors[name] for name in names[40:]}, folder / "pytorch_model-2.bin")
    return folder


def under_new_names(tensors: Tensors, folder: Path) -> Path:
    def new(name: str) -> str:
        return name.replace("language_model.model.", "model.language_model.")

    return of_one_file({new(name): tensor for name, tensor in tensors.items()}, folder)


@pytest.mark.parametrize("write", [of_one_file, of_shards, pickled, under_new_names])
def test_equal_weights_in_other_files_have_the_same_fingerprint(
    write: object, tensors: Tensors, tmp_path: Path
) -> None:
    found = fingerprint(write(tensors, tmp_path), CONFIG)  # type: ignore[operator]
    assert found is not None and found == fingerprint(TINY, CONFIG)


@pytest.mark.parametrize("write", [of_one_file, of_shards, pickled])
@pytest.mark.parametrize("place", ["first", "middle", "last", "dtype", "one more"])
def test_other_weights_have_another_fingerprint(
    place: str, write: object, tensors: Tensors, tmp_path: Path
) -> None:
    changed = dict(tensors)
    name = max(tensors, key=lambda name: tensors[name].numel())
    weight = tensors[name].clone()
    flat = weight.view(-1)
    if place == "dtype":
        weight = weight.float()
    elif place == "one more":
        changed["model.more.weight"] = torch.ones(2)
    else:
        flat[{"first": 0, "middle": len(flat) // 2, "last": -1}[place]] += 1
    changed[name] = weight
    found = fingerprint(write(changed, tmp_path), CONFIG)  # type: ignore[operator]
    assert same_weights(found, fingerprint(TINY, CONFIG)) is False


def test_a_second_copy_of_a_tied_layer_changes_nothing(tensors: Tensors, tmp_path: Path) -> None:
    embeddings = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    more = {**tensors, "language_model.lm_head.weight": tensors[embeddings].clone()}
    tied = {**CONFIG, "tie_word_embeddings": True}
    assert fingerprint(of_one_file(more, tmp_path), tied) == fingerprint(TINY, tied)
    assert fingerprint(tmp_path, {**CONFIG, "tie_word_embeddings": False}) != fingerprint(
        TINY, CONFIG
    )


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, CONFIG) is None
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 40)
    assert fingerprint(tmp_path, CONFIG) is None


def test_fingerprints_of_the_first_scheme_say_nothing() -> None:
    assert same_weights("0123456789abcdef", "w2:0123456789abcdef") is None
    assert same_weights(None, "w2:0123456789abcdef") is None
    assert same_weights("w2:0123456789abcdef", "w2:0123456789abcdef") is True
    assert same_weights("w2:0123456789abcdef", "w2:1123456789abcdef") is False
