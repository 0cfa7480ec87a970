"""Helpers of the tests that read adapters."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from merging.algebra.low_rank import LowRank
from tests.merging.algebra.make_adapters import KEY, Q, lora, write_files

K = Q.replace("q_proj", "k_proj")


BASE = "google/paligemma-3b-pt-224"


def assert_close(updates: Mapping[str, LowRank], expected: Mapping[str, Tensor]) -> None:
    assert list(updates) == sorted(expected)
    for name, delta in expected.items():
        dense = updates[name].dense()
        assert (dense - delta).norm() <= 1e-6 * delta.norm(), name


class Layers(nn.Module):
    """A biased linear layer, an embedding, a convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.linear = nn.Linear(5, 3)
        self.conv = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.linear(x))


def without(part: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in lora().items() if part not in key}


def with_value(value: float) -> dict[str, Tensor]:
    tensors = lora()
    tensors[f"{KEY}.lora_B.weight"][2, 1] = value
    return tensors


def check_sentence(text: str, folder: Path) -> None:
    assert str(folder) in text and text.endswith(".") and "\n" not in text
    assert "; " in text  # what to do


def make_file(folder: Path) -> None:
    folder.write_text("")


def make_nothing(folder: Path) -> None:
    pass


def make_full_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def make_no_weights(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_model.safetensors").unlink()


def make_torn_config(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", ')


def make_truncated(folder: Path) -> None:
    write_files(folder, lora())
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def make_no_safetensors(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com")


def make_pickle_of_code(folder: Path) -> None:
    make_no_weights(folder)
    torch.save({"a": Path("x")}, folder / "adapter_model.bin")


def make_pickle_of_numbers(folder: Path) -> None:
    make_no_weights(folder)
    torch.save([1, 2], folder / "adapter_model.bin")


def make_torn_pickle(folder: Path) -> None:
    make_no_weights(folder)
    torch.save(lora(), folder / "adapter_model.bin")
    path = folder / "adapter_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


def make_strange_run(folder: Path) -> None:
    write_files(folder, lora())
    (folder / "run.json").write_text('{"settings": {}, "base_fingerprint": 1}')


def random_update(rank: int, d_out: int, d_in: int, scale: float = 1.0) -> LowRank:
    return LowRank(b=torch.randn(d_out, rank), a=torch.randn(rank, d_in), scale=scale)


def tiny_updates() -> dict[str, LowRank]:
    """Updates of the tiny model's modules: many ranks, signs, no scale, other places."""
    torch.manual_seed(0)
    layers = "model.language_model.layers"
    return {
        f"{layers}.1.self_attn.q_proj": random_update(4, 128, 128, 2.0),
        f"{layers}.0.self_attn.q_proj": random_update(4, 128, 128, 0.3),
        f"{layers}.0.self_attn.k_proj": random_update(32, 32, 128, -1.5),
        f"{layers}.1.mlp.down_proj": random_update(1, 128, 512, 1e-3),
        f"{layers}.0.mlp.down_proj": random_update(4, 128, 512, 0.0),
        # as many of rank 3 as of rank 4: which is the common one must not depend on the order
        "model.vision_tower.encoder.layers.0.mlp.fc1": random_update(3, 512, 128),
        "model.vision_tower.encoder.layers.1.mlp.fc1": random_update(3, 512, 128),
        "model.multi_modal_projector.linear": random_update(3, 128, 128),
    }


def layer_names() -> Iterator[str]:
    for index in range(12):
        for module in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"):
            yield f"model.language_model.layers.{index}.{module}"
        yield f"model.vision_tower.encoder.layers.{index}.self_attn.q_proj"
    yield from ("lm_head", "model.multi_modal_projector.linear", "model.experts.1.2.w", "a+b")
