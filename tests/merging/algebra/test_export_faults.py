"""Exports that cannot be right are refused, and leave nothing."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merging.algebra.base import open_base
from merging.algebra.full_model import export_full
from tests.merging.algebra.exports import (
    FC1,
    Q_PROJ,
    Q_PROJ_ON_DISK,
    leftovers,
    nothing,
    raw,
    refused,
)
from tests.merging.algebra.test_base import SHARDS, write_sharded


def test_only_what_a_model_folder_needs_is_copied(sharded: Path, tmp_path: Path) -> None:
    wanted = ["generation_config.json", "tokenizer.json", "preprocessor_config.json"]
    for name in [*wanted, "optimizer.pt", "pytorch_model.bin", "README.md", "trainer_state.json"]:
        (sharded / name).write_text("{}")
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    expected = {*wanted, *SHARDS, "config.json", "model.safetensors.index.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_export_leaves_nothing(
    sharded: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    begun: list[str] = []

    def interrupt(module: str) -> None:
        if module == FC1:  # in the second shard
            begun.extend(path.name for path in tmp_path.glob("out.unfinished-*/*"))
            raise error

    with pytest.raises(error):
        export_full(open_base(str(sharded)), tmp_path / "out", interrupt)
    assert sorted(begun) == list(SHARDS)
    assert leftovers(tmp_path) == []


def test_a_killed_export_leaves_no_output_and_the_next_one_sweeps(
    sharded: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from merging.algebra.base import open_base\n"
        "from merging.algebra.full_model import export_full\n"
        "def kill(module):\n"
        f"    if module == {FC1!r}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_full(open_base(sys.argv[1]), Path(sys.argv[2]), kill)\n"
    )
    command = [sys.executable, "-c", code, str(sharded), str(tmp_path / "out")]
    with subprocess.Popen(command) as process:
        assert process.wait() == -signal.SIGKILL
    assert leftovers(tmp_path) == [f"out.unfinished-{platform.node()}-{process.pid}"]
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert leftovers(tmp_path) == ["out"]
    assert raw(tmp_path / "out" / SHARDS[1]) == raw(sharded / SHARDS[1])


def test_the_disk_is_begun_with_before_all_is_worked_out(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {}
    sync = os.fsync

    def watched(number: int) -> None:
        name = os.readlink(f"/proc/self/fd/{number}").rpartition("/")[2]
        sizes.setdefault(name, []).append(os.fstat(number).st_size)
        sync(number)

    monkeypatch.setattr("os.fsync", watched)
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    for name in SHARDS:
        whole = (tmp_path / "out" / name).stat().st_size
        assert sizes[name][0] < whole == sizes[name][-1]


def test_a_disk_that_fails_meanwhile_is_reported_and_nothing_stays(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_failures = 0

    def fail_once(number: int) -> None:  # as Linux does: the next one tells of success
        nonlocal num_failures
        num_failures += 1
        if num_failures == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fail_once)
    with pytest.raises(OSError, match="Input/output error"):
        export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert num_failures > 1
    assert leftovers(tmp_path) == []


def test_an_export_of_a_running_process_is_left_alone(sharded: Path, tmp_path: Path) -> None:
    running = f"out.unfinished-{platform.node()}-{os.getppid()}"
    others = ["out.unfinished-elsewhere-1", "out.tmp-2024", "outer.unfinished-1"]
    for name in (running, *others):
        (tmp_path / name).mkdir()
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert sorted(leftovers(tmp_path)) == sorted(["out", running, *others])


def test_an_empty_output_folder_is_used(sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert (tmp_path / "out" / "config.json").is_file()


def test_an_output_folder_in_use_is_never_touched(sharded: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="is not an empty folder"):
        export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_update_of_a_tied_layer_is_refused(sharded: Path, tmp_path: Path) -> None:
    embeddings = "model.language_model.embed_tokens"
    message = "ties lm_head to embed_tokens"
    for module in ("lm_head", embeddings):
        update = torch.ones(24, 16)
        refused(sharded, tmp_path / "out", message, {module: update}.get)
        refused(sharded, tmp_path / "out", message, replace={f"{module}.weight": update})


def test_an_update_of_an_untied_output_layer_is_added(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    config = {"model_type": "paligemma", "tie_word_embeddings": False}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    weights = {"language_model.lm_head.weight": torch.ones(4, 2)}
    save_file(weights, tmp_path / "base" / "model.safetensors")
    updates = {"lm_head": torch.ones(4, 2)}
    export_full(open_base(str(tmp_path / "base")), tmp_path / "out", updates.get)
    out = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(out["language_model.lm_head.weight"], torch.full((4, 2), 2.0))


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq"}}
    write_sharded(tmp_path / "base", **config)
    refused(tmp_path / "base", tmp_path / "out", r"quantised \(awq\).*unquantised base")


def test_an_update_of_packed_numbers_is_refused(sharded: Path, tmp_path: Path) -> None:
    tensors = load_file(sharded / SHARDS[0])
    tensors[Q_PROJ_ON_DISK] = torch.zeros(8, 16, dtype=torch.uint8)
    save_file(tensors, sharded / SHARDS[0])
    updates = {Q_PROJ: torch.ones(8, 16)}
    message = "stored as U8.*needs the unquantised base"
    refused(sharded, tmp_path / "out", message, updates.get)


@pytest.mark.parametrize("shape", [(16, 8), (1, 16), (8,)])
def test_an_update_of_another_shape_is_refused(
    sharded: Path, tmp_path: Path, shape: Sequence[int]
) -> None:
    message = r"q_proj\.weight has shape .* the base's is \(8, 16\)"
    refused(sharded, tmp_path / "out", message, {Q_PROJ: torch.ones(*shape)}.get)
    replaced = {f"{Q_PROJ}.weight": torch.ones(*shape)}
    refused(sharded, tmp_path / "out", message, replace=replaced)


def test_replacing_a_tensor_that_the_base_lacks_is_refused(sharded: Path, tmp_path: Path) -> None:
    replaced = {f"{Q_PROJ}.bias": torch.ones(8)}
    refused(sharded, tmp_path / "out", r"no tensor .*q_proj\.bias", replace=replaced)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_update_that_is_not_finite_is_refused(
    sharded: Path, tmp_path: Path, value: float
) -> None:
    updates = {Q_PROJ: torch.zeros(8, 16)}
    updates[Q_PROJ][3, 4] = value
    refused(sharded, tmp_path / "out", r"q_proj\.weight .*NaN", updates.get)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("updates", [{}, {Q_PROJ: torch.zeros(8, 16)}], ids=["copied", "changed"])
def test_a_base_with_nan_or_inf_is_refused_as_the_cause(
    sharded: Path, tmp_path: Path, value: float, dtype: torch.dtype, updates: dict[str, Tensor]
) -> None:
    tensors = load_file(sharded / SHARDS[0])
    tensors[Q_PROJ_ON_DISK] = torch.zeros(8, 16, dtype=dtype)
    tensors[Q_PROJ_ON_DISK][7, 15] = value  # the last one
    save_file(tensors, sharded / SHARDS[0])
    message = f"base model is damaged: {Q_PROJ_ON_DISK} in {sharded / SHARDS[0]} has NaN or Inf; "
    refused(sharded, tmp_path / "out", message, updates.get)


def test_a_base_with_values_that_another_dtype_has_not_is_refused(
    sharded: Path, tmp_path: Path
) -> None:
    tensors = load_file(sharded / SHARDS[0])
    tensors[Q_PROJ_ON_DISK] = torch.full((8, 16), 1e39, dtype=torch.float64)  # float32 has 3e38
    save_file(tensors, sharded / SHARDS[0])
    message = rf"^{Q_PROJ_ON_DISK} has NaN or values beyond BF16; "
    refused(sharded, tmp_path / "out", message, save_dtype="bfloat16")


def test_what_is_no_number_and_what_is_empty_is_passed_on(sharded: Path, tmp_path: Path) -> None:
    tensors = load_file(sharded / SHARDS[0])
    tensors[Q_PROJ_ON_DISK] = torch.full((8, 16), 255, dtype=torch.uint8)  # NaN by its bits
    tensors["empty"] = torch.zeros(0)
    save_file(tensors, sharded / SHARDS[0])
    export_full(open_base(str(sharded)), tmp_path / "out", nothing)
    assert raw(tmp_path / "out" / SHARDS[0]) == raw(sharded / SHARDS[0])


def test_a_full_disk_is_said_before_anything_is_written(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("merging.algebra.full_model.shutil.disk_usage", lambda _: usage)
    refused(sharded, tmp_path / "out", "has 0.00 GB left; make room")


def test_nf4_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path / "base", model_type="new")
    refused(tmp_path / "base", tmp_path / "out", "of type 'new'", onto="nf4")
