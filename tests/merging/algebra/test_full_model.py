"""A full model is the base plus the updates."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.algebra.base import open_base
from merging.algebra.full_model import export_full
from merging.algebra.rounding import nf4_round_trip
from models.checkpoint import TINY
from tests.merging.algebra.exports import (
    BIAS,
    FC1,
    Q_PROJ,
    Q_PROJ_ON_DISK,
    load,
    logits,
    nothing,
    random_updates,
    raw,
)
from tests.merging.algebra.test_base import SHARDS, write_sharded


@pytest.mark.parametrize("save_dtype", ["auto", "float32"])
def test_the_exported_model_is_the_base_with_the_updates(tmp_path: Path, save_dtype: Any) -> None:
    updates = random_updates("tiny", Q_PROJ, FC1)
    report = export_full(open_base("tiny"), tmp_path / "out", updates.get, save_dtype=save_dtype)
    model = load(TINY)
    before = logits(model)
    for name, update in updates.items():  # added in float32 and rounded once
        weight = model.get_parameter(f"{name}.weight")
        exact = weight.data + update
        weight.data = exact if save_dtype == "float32" else exact.bfloat16().float()
    after = logits(load(tmp_path / "out"))
    assert torch.equal(after, logits(model))
    assert not torch.allclose(after, before, atol=1e-2)
    lost = [rounding.loss for rounding in report.rounding.values()]
    assert len(lost) == 2
    assert all(share == 0 for share in lost) == (save_dtype == "float32")
    with (tmp_path / "out" / "config.json").open() as file:
        config = json.load(file)
    assert config["dtype"] == {"auto": "bfloat16", "float32": "float32"}[save_dtype]
    assert config["text_config"]["dtype"] == config["vision_config"]["dtype"] == "float32"


def test_without_an_update_every_file_is_the_base_s_own(sharded: Path, tmp_path: Path) -> None:
    (sharded / "tokenizer.json").write_text("{}")
    report = export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    for name in (*SHARDS, "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (sharded / name).read_bytes()
    assert report.rounding == {}
    assert report.bytes_read == sum((sharded / name).stat().st_size for name in SHARDS)


def test_only_the_targeted_tensor_changes(sharded: Path, tmp_path: Path) -> None:
    updates = random_updates(str(sharded), Q_PROJ)
    export_full(open_base(str(sharded)), tmp_path / "out", updates.get)
    for shard in SHARDS:
        before, after = raw(sharded / shard), raw(tmp_path / "out" / shard)
        assert after.keys() == before.keys()
        changed = [name for name in before if before[name] != after[name]]
        assert changed == ([Q_PROJ_ON_DISK] if shard == SHARDS[0] else [])
    before = load_file(sharded / SHARDS[0])[Q_PROJ_ON_DISK]
    after = load_file(tmp_path / "out" / SHARDS[0])[Q_PROJ_ON_DISK]
    assert after.dtype == torch.bfloat16
    assert torch.equal(after, (before.float() + updates[Q_PROJ]).bfloat16())


@pytest.mark.parametrize(("save_dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_another_dtype_reaches_every_float_and_no_integer(
    sharded: Path, tmp_path: Path, save_dtype: Any, size: int
) -> None:
    updates = random_updates(str(sharded), Q_PROJ)
    base = open_base(str(sharded))
    export_full(base, tmp_path / "out", updates.get, save_dtype=save_dtype)
    dtype = getattr(torch, save_dtype)
    for shard in SHARDS:
        before, after = load_file(sharded / shard), load_file(tmp_path / "out" / shard)
        assert after.keys() == before.keys()
        for name, tensor in before.items():
            expected = tensor
            if tensor.is_floating_point():
                update = updates[Q_PROJ] if name == Q_PROJ_ON_DISK else 0
                expected = (tensor.float() + update).to(dtype)
            assert after[name].dtype == expected.dtype
            assert torch.equal(after[name], expected), name
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    # 384 + 128 + 16 values in the first shard, 512 + 16 + 512 + 48 and 4 integers in the second
    assert index["metadata"]["total_size"] == (528 + 1088) * size + 4 * 8
    original = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == original["weight_map"]


def test_another_dtype_is_said_in_the_config_as_it_was_spelled(tmp_path: Path) -> None:
    parts = {"text_config": {"torch_dtype": "float16"}, "vision_config": {"depth": 1}}
    write_sharded(tmp_path / "base", torch_dtype="float16", **parts)
    base = open_base(str(tmp_path / "base"))
    export_full(base, tmp_path / "out", nothing, save_dtype="bfloat16")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    changed = {"torch_dtype": "bfloat16", "text_config": {"torch_dtype": "bfloat16"}}
    assert config == base.config | changed


def test_rounding_loss_is_the_lost_share_of_the_update(tmp_path: Path) -> None:
    # bfloat16 has steps of 2^-7 above 1: of updates 2^-7, 2^-9 the first is kept, the second lost
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "paligemma"}')
    weights = {"a.weight": torch.ones(1, 2), "b.weight": torch.ones(1, 2)}
    weights = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(weights, tmp_path / "base" / "model.safetensors")
    updates = {"a": torch.tensor([[2**-7, 2**-9]]), "b": torch.zeros(1, 2)}
    report = export_full(open_base(str(tmp_path / "base")), tmp_path / "out", updates.get)
    assert set(report.rounding) == {"a.weight"}  # b's update is zero
    rounding = report.rounding["a.weight"]
    assert rounding.lost == 2**-9
    assert rounding.loss == pytest.approx(1 / 17**0.5)  # 2^-9 / sqrt(2^-14 + 2^-18)
    out = load_file(tmp_path / "out" / "model.safetensors")["a.weight"]
    assert out.tolist() == [[1 + 2**-7, 1.0]]


def test_large_tensors_are_written_whole(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.algebra.rounding._BLOCK", 7)
    monkeypatch.setattr("merging.algebra.stored_tensors._CHUNK", 24)
    updates = random_updates(str(sharded), Q_PROJ)
    report = export_full(open_base(str(sharded)), tmp_path / "out", updates.get)
    before = load_file(sharded / SHARDS[0])
    expected = before[Q_PROJ_ON_DISK].float() + updates[Q_PROJ]
    after = load_file(tmp_path / "out" / SHARDS[0])
    assert torch.equal(after[Q_PROJ_ON_DISK], expected.bfloat16())
    lost = (expected.bfloat16().float() - expected).norm() / updates[Q_PROJ].norm()
    assert report.rounding[f"{Q_PROJ}.weight"].loss == pytest.approx(float(lost), rel=1e-5)
    assert (tmp_path / "out" / SHARDS[1]).read_bytes() == (sharded / SHARDS[1]).read_bytes()


def test_each_matrix_is_asked_for_once(sharded: Path, tmp_path: Path) -> None:
    asked: list[str] = []
    export_full(open_base(str(sharded)), tmp_path / "out", asked.append)
    expected = set(open_base(str(sharded)).shapes()) | {"lm_head"}  # it might be tied
    assert sorted(asked) == sorted(expected)


def test_replaced_values_stand_in_for_the_base_s_and_updates_come_on_top(
    sharded: Path, tmp_path: Path
) -> None:
    bias = torch.arange(16.0)
    q_proj = torch.ones(8, 16)
    report = export_full(
        open_base(str(sharded)),
        tmp_path / "out",
        {Q_PROJ: 2 * torch.ones(8, 16)}.get,
        replace={BIAS: bias, f"{Q_PROJ}.weight": q_proj},
    )
    first = load_file(tmp_path / "out" / SHARDS[0])
    second = load_file(tmp_path / "out" / SHARDS[1])
    assert torch.equal(second["multi_modal_projector.linear.bias"], bias)
    assert torch.equal(first[Q_PROJ_ON_DISK], torch.full((8, 16), 3.0).bfloat16())
    before = load_file(sharded / SHARDS[1])["multi_modal_projector.linear.bias"]
    assert report.rounding[BIAS].update == pytest.approx(float((bias - before).norm()), rel=1e-6)


def test_onto_nf4_is_what_training_saw_layer_by_layer(pico: Path, tmp_path: Path) -> None:
    import bitsandbytes.functional as bnb

    from models.checkpoint import resolve
    from models.loading import load_model
    from models.quantization import quantized_layers

    layers = quantized_layers(load_model(resolve(str(pico)), quantization="nf4").model)
    assert len(layers) == 14
    updates = random_updates(str(pico), Q_PROJ, FC1)
    export_full(open_base(str(pico)), tmp_path / "out", updates.get, onto="nf4")
    before, after = open_base(str(pico)).tensors, open_base(str(tmp_path / "out")).tensors
    for name, tensor in after.items():
        expected = before[name].read()
        if tensor.module in layers:
            weight = layers[tensor.module].weight
            expected = bnb.dequantize_4bit(weight.data, weight.quant_state)
        expected = expected + updates.get(tensor.module, 0) if tensor.is_matrix else expected
        assert torch.equal(tensor.read(), expected), name


@pytest.mark.parametrize("shape", [(64, 128), (16, 48), (64, 4304), (3, 50)])
def test_nf4_is_right_at_every_width(shape: tuple[int, int]) -> None:
    """By the definition: nearest of 16 values times the block's maximum, itself in 8 bits."""
    import bitsandbytes.functional as bnb

    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    code = bnb.get_4bit_type("nf4", device="cpu")
    blocks = weight.flatten().split(64)
    largest = torch.stack([block.abs().max() for block in blocks])
    data, state = bnb.quantize_blockwise(largest - largest.mean(), blocksize=256)
    kept = bnb.dequantize_blockwise(data, state) + largest.mean()
    expected = torch.cat(
        [
            code[(block[:, None] / top - code).abs().argmin(1)] * scale
            for block, top, scale in zip(blocks, largest, kept, strict=True)
        ]
    )
    assert torch.allclose(nf4_round_trip(weight), expected.view(shape), rtol=0, atol=1e-6)
