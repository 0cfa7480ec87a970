"""Weights that are not there, or not all."""

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from models.checkpoint import TINY, resolve, typed_name
from models.loading import load_model


def load(folder: Path) -> None:
    load_model(resolve(str(folder)), quantization="none", device="cpu")


@pytest.fixture
def copied(pico1: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico1, tmp_path / "model"))


def test_a_folder_without_weights_is_refused(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=rf"^{copied} holds no weights \(\*\.safetensors or .*copy"
    ):
        load(copied)


def test_a_shard_that_is_absent_is_named(copied: Path) -> None:
    weights = copied / "model.safetensors"
    names = load_file(weights)
    weights.rename(copied / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    index["weight_map"][max(names)] = "model-00002-of-00002.safetensors"
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=rf"^The weights of {copied} .*model-00002-of-00002.* again"
    ):
        load(copied)


def test_an_adapter_without_weights_is_not_one_of_another_base(pico1: Path, tmp_path: Path) -> None:
    loaded = load_model(resolve(str(pico1)), quantization="none", device="cpu")
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path)
    load(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=rf"^Adapter {tmp_path} holds no weights .*adapter_config"):
        load(tmp_path)


def test_a_model_is_named_as_one_types_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed_name(TINY.resolve()) == "tiny"
    assert typed_name(tmp_path / "runs" / "a") == "runs/a"
    assert typed_name("org/model") == "org/model"
    # a folder of the user's whose name is the word for the embedded model keeps its place
    assert typed_name(tmp_path / "tiny") == str(tmp_path / "tiny")
