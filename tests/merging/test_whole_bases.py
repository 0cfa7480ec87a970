"""A base whose files lack weights, or hold others than its config says, is not written out anew.

No adapter touches what is wrong here, so the merge itself would go through.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaForConditionalGeneration

from tests.helpers import read_json, sentence
from tests.merging.merge_inputs import TINY, run, write_adapter

FAR = "layers.3.mlp.down_proj.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    write_adapter(folder / "a", r=2, target_modules=r".*language_model\.layers\.0\..*q_proj")
    return folder


def lack_a_tensor(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    del tensors[next(key for key in tensors if key.endswith(FAR))]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def list_too_few_shards(base: Path) -> None:
    model = PaliGemmaForConditionalGeneration.from_pretrained(TINY, dtype=torch.float32)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="3MB")
    index = read_json(base / INDEX)
    far = next(file for name, file in index["weight_map"].items() if name.endswith(FAR))
    index["weight_map"] = {n: f for n, f in index["weight_map"].items() if f != far}
    (base / INDEX).write_text(json.dumps(index))


def say_more_words(base: Path) -> None:
    config = read_json(base / "config.json")
    config["text_config"]["vocab_size"] += 64
    (base / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lack_a_tensor, f"lack 1 of the model's, model.language_model.{FAR} first."),
        (list_too_few_shards, "of the model's, model."),
        (say_more_words, "embed_tokens.weight is (1984, 128), the config says (2048, 128)."),
    ],
)
def test_a_full_model_is_not_written_over_such_files(
    adapters: Path, tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    base = shutil.copytree(TINY, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.py"))
    damage(base)
    result = run(adapters, tmp_path / "out", names="a", base=base)
    message = sentence(result.exit_code, result.output)
    assert f"The weights of {base} " in message and problem in message
    assert "Copy or download them again" in message
    assert not (tmp_path / "out").exists()


def test_whole_files_are_written_whether_in_one_or_in_several(
    adapters: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(TINY, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.py"))
    model = PaliGemmaForConditionalGeneration.from_pretrained(TINY)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="2MB")
    for name, place in (("one", TINY), ("several", base)):
        result = run(adapters, tmp_path / name, names="a", base=place)
        assert result.exit_code == 0, result.output
