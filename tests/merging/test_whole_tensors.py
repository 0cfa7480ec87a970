"""Biases and whole tensors beside the LoRA are weighed as the modules of the same adapters are."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PaliGemmaForConditionalGeneration

from tests.helpers import sentence
from tests.merging.algebra.make_adapters import load_tiny
from tests.merging.merge_inputs import (
    by_peft,
    edit_config,
    edit_tensors,
    run,
    write_adapter,
    write_adapters,
)

PROJECTOR = "model.multi_modal_projector.linear"
NAME = f"{PROJECTOR}.bias"
VISION = r".*vision_tower.*\.0\..*q_proj"
FLOAT32 = ("--save_dtype", "float32")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the projector's bias a has the base's + 1, c the base's + 3, and b nothing."""
    folder = write_adapters(tmp_path_factory.mktemp("adapters"))
    linear = load_tiny().model.multi_modal_projector.linear
    for name, difference in (("a", 1), ("c", 3)):
        saved = {"bias": linear.bias.data + difference, "weight": linear.weight.data}
        new = {f"base_model.model.{PROJECTOR}.{part}": value for part, value in saved.items()}
        edit_config(folder / name, modules_to_save=["multi_modal_projector"])
        edit_tensors(folder / name, lambda tensors, new=new: tensors.update(new))
    return folder


def exported(folder: Path) -> dict[str, Tensor]:
    return PaliGemmaForConditionalGeneration.from_pretrained(folder).state_dict()


@pytest.mark.parametrize(
    ("names", "options", "difference"),
    [
        ("ab", "linear", 0.5),
        ("ab", "linear --missing renorm", 1),
        ("ab", "linear --missing renorm --weights 0.25,0.5 --lambda 2", 2),  # 2 * 0.25 / 0.25
        ("ac", "linear --missing renorm --weights 0.25,0.5", 1.75),  # both have it: 0.25 + 1.5
        ("abc", "linear --missing renorm", 2),  # (1 + 3) / 2
        ("abc", "linear", 4 / 3),
        ("ab", "dare_linear", 0.5),
        ("ab", "dare_linear --missing renorm", 1),
        ("ab", "magnitude_prune --missing renorm", 1),
        ("ab", "ties --density 1", 1),
        ("ab", "ties --density 0.1 --weights 1,3 --lambda 0.5", 0.5),
        ("ab", "ties --weights 0,1", 0),
        ("ac", "ties --weights 1,3", 2.5),  # (1 * 1 + 3 * 3) / 4
        ("abc", "dare_ties", 2),
        ("ab", "core_ties", 1),
        ("ac", "tsv", 4),  # a sum
    ],
)
def test_a_whole_tensor_is_weighed_over_the_adapters_that_have_it(
    names: str, options: str, difference: float, adapters: Path, tmp_path: Path
) -> None:
    result = run(adapters, tmp_path / "out", "--mode", *options.split(), *FLOAT32, names=names)
    assert result.exit_code == 0, result.output
    expected = load_tiny().get_parameter(NAME).data + difference
    torch.testing.assert_close(exported(tmp_path / "out")[NAME], expected, rtol=1e-5, atol=1e-6)


def test_what_one_adapter_alone_has_is_merged_whole(adapters: Path, tmp_path: Path) -> None:
    """One has the language model's layers and the projector's bias, one the vision tower's."""
    shutil.copytree(adapters / "a", tmp_path / "a")
    config = {"r": 2, "lora_alpha": 6, "target_modules": VISION, "lora_bias": True}
    write_adapter(tmp_path / "vision", **config)
    names, options = ["a", "vision"], ("--mode", "linear", "--missing", "renorm", *FLOAT32)
    result = run(tmp_path, tmp_path / "out", *options, names=names)
    assert result.exit_code == 0, result.output
    base, alone = load_tiny().state_dict(), [by_peft(tmp_path / name) for name in names]
    changed = [
        {key for key, value in state.items() if not torch.equal(value, base[key])}
        for state in alone
    ]
    assert NAME in changed[0] and any(key.endswith("q_proj.bias") for key in changed[1])
    for key, value in exported(tmp_path / "out").items():
        expected = alone[key in changed[1]][key]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"use_dora": True}, "x uses DoRA, whose update is not low rank"),
        ({"lora_bias": True}, "x has lora_bias: updates of biases"),
        ({"modules_to_save": ["fc1"]}, "x holds whole tensors beside its LoRA"),
    ],
)
def test_more_than_low_rank_updates_is_not_scaled_to_one_norm(
    config: dict[str, object], part: str, adapters: Path, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "in/x", target_modules=VISION, **config)
    shutil.copytree(adapters / "b", tmp_path / "in/b")
    options = ("--mode", "linear", "--normalize")
    result = run(tmp_path / "in", tmp_path / "out", *options, names="bx")
    message = sentence(result.exit_code, result.output)
    assert "--normalize scales low-rank updates alone" in message and part in message
    assert not (tmp_path / "out").exists()
