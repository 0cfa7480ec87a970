"""The report of a merge: inputs as they were trained, totals, the worst modules, warnings."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merging.algebra import report
from merging.algebra.adapters import Adapter
from merging.algebra.merge import Merge, start_merge
from merging.algebra.modes import default_options
from merging.algebra.reader import read_adapter
from tests.merging.algebra.make_adapters import write_files

Q, K = (f"model.language_model.layers.0.self_attn.{name}_proj" for name in "qk")


def write(folder: Path, factors: dict[str, tuple[Any, Any]], **config: Any) -> Adapter:
    """An adapter of rank 1 and alpha 1 with these (B, A) per module."""
    tensors = {}
    for name, (b, a) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.tensor(a, dtype=torch.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.tensor(b, dtype=torch.float32)
    return read_adapter(write_files(folder, tensors, **{"r": 1, "lora_alpha": 1, **config}))


def merge(*adapters: Adapter) -> Merge:
    return start_merge(adapters, "linear", default_options("linear", len(adapters)))


ONE: tuple[list[list[float]], list[list[float]]] = ([[1.0], [0.0]], [[3.0, 4.0]])
RANK_2 = ([[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]])


def test_an_adapter_is_described_as_it_is_stored(tmp_path: Path) -> None:
    patterns = {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"k_proj": 6}}
    listed = write(
        tmp_path / "a", {Q: ONE, K: RANK_2}, target_modules=["q_proj", "k_proj"], **patterns
    )
    plain = write(tmp_path / "b", {Q: ONE}, target_modules=r".*q_proj")
    first, second = report.describe_adapters([listed, plain])
    assert first["target_modules"] == ["q_proj", "k_proj"]
    assert second["target_modules"] == r".*q_proj"
    assert (first["rank"], first["other_ranks"]) == (1, {K: 2})
    assert (first["alpha"], first["other_alphas"]) == (1, {K: 6})
    assert second["other_ranks"] == second["other_alphas"] == {}
    size = (tmp_path / "b/adapter_model.safetensors").stat().st_size
    assert second["num_bytes"] == size


def test_the_cosine_of_the_stacked_a_shows_whether_adapters_share_it(tmp_path: Path) -> None:
    def adapter(name: str, q: list[float], k: list[float]) -> Adapter:
        return write(tmp_path / name, {Q: ([[1.0], [2.0]], [q]), K: ([[5.0], [1.0]], [k])})

    first, shared = adapter("first", [1, 0], [0, 2]), adapter("shared", [1, 0], [0, 2])
    # over both modules: (3 + 2) / sqrt(1 + 4) / sqrt(9 + 16 + 1) = 5 / sqrt(130)
    other = adapter("other", [3, 4], [0, 1])
    found = report.a_cosines(merge(first, shared, other))
    expected = 5 / 130**0.5
    assert found[0] == pytest.approx([1, 1, expected])
    assert found[2] == pytest.approx([expected, expected, 1])


def test_of_other_ranks_or_modules_the_a_cannot_be_compared(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {Q: ONE})
    two = write(tmp_path / "two", {Q: RANK_2}, r=2)
    more = write(tmp_path / "more", {Q: ONE, K: ONE})
    zero = write(tmp_path / "zero", {Q: ([[1.0], [0.0]], [[0.0, 0.0]])})
    found = report.a_cosines(merge(one, two, more, zero))
    assert found[0] == [pytest.approx(1), None, None, None]
    summary = report.summarise(merge(one, two), {})
    assert summary["a_cosines"] == [[pytest.approx(1), None], [None, pytest.approx(1)]]


def test_the_worst_modules_are_named_with_their_figure(tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", {Q: ONE})
    modules = {
        f"m{n}": {
            "merged_norm": 1.0,
            "norms": [1.0],
            "retention": [None if n == 6 else 0.9 - n / 10],
            "energy_kept": 0.5 + n / 20,
        }
        for n in range(7)
    }
    summary = report.summarise(merge(adapter), modules)
    # 0.9, 0.8, .. 0.4 and one of nothing; 0.5, 0.55, .. 0.8
    assert list(summary["least_retained"]) == ["m5", "m4", "m3", "m2", "m1"]
    assert summary["least_retained"]["m5"] == pytest.approx(0.4)
    assert list(summary["least_energy_kept"]) == ["m0", "m1", "m2", "m3", "m4"]


def test_a_low_share_of_energy_in_total_is_warned_of_with_its_worst_module(tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", {Q: ONE})

    def warnings(q: float, k: float) -> list[str]:
        summary = report.summarise(merge(adapter), {Q: {"energy_kept": q}, K: {"energy_kept": k}})
        return report.warnings([adapter], summary)

    # the root of the mean of squares: sqrt((0.9^2 + 0.6^2) / 2) = 0.76; with 0.94 it is 0.97
    (text,) = warnings(0.9, 0.6)
    assert f"keeps 0.76 of the merge's energy, least in {K} (0.60);" in text
    assert warnings(1.0, 0.94) == []


def test_adapters_in_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    small = write(tmp_path / "x/run", {Q: ONE})
    large = write(tmp_path / "y/run", {Q: ([[9.0], [0.0]], [[3.0, 4.0]])})
    found = merge(small, large)
    metrics = {Q: found.measure(Q)}
    text = " ".join(report.warnings([small, large], report.summarise(found, metrics)))
    assert (
        f"The update of {tmp_path}/y/run is 9.0 times as large as that of {tmp_path}/x/run" in text
    )
