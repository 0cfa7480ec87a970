"""The merge of whole adapters: dense float64 oracles of each mode, and what the report says."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merging.algebra import report
from merging.algebra.adapters import Adapter
from merging.algebra.merge import Merge, start_merge
from merging.algebra.modes import MODES, default_options
from merging.algebra.reader import read_adapter
from tests.merging.algebra.make_adapters import write_files

Q, K = (f"model.language_model.layers.0.self_attn.{name}_proj" for name in "qk")
SHAPES = {Q: (6, 8), K: (4, 8)}


def write(
    folder: Path, seed: int, rank: int, modules: tuple[str, ...] = (Q, K), size: float = 1.0
) -> Adapter:
    """A random adapter of alpha 3."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in modules:
        d_out, d_in = SHAPES[name]
        for part, shape in (("lora_A", (rank, d_in)), ("lora_B", (d_out, rank))):
            value = torch.randn(shape, generator=generator) * math.sqrt(size)
            tensors[f"base_model.model.{name}.{part}.weight"] = value
    return read_adapter(write_files(folder, tensors, r=rank, lora_alpha=3))


@pytest.fixture
def adapters(tmp_path: Path) -> list[Adapter]:
    """Ranks 2 and 3; the second has no k_proj."""
    return [write(tmp_path / "a", 1, 2), write(tmp_path / "b", 2, 3, (Q,))]


def dense(adapter: Adapter, name: str) -> Tensor:
    """The update by definition, in float64; zero where the adapter has none."""
    if name not in adapter.updates:
        return torch.zeros(SHAPES[name], dtype=torch.float64)
    update = adapter.updates[name]
    return 3 / update.a.shape[0] * update.b.double() @ update.a.double()


def norm(updates: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(u.square().sum()) for u in updates.values()))


def whole(adapter: Adapter) -> dict[str, Tensor]:
    return {name: dense(adapter, name) for name in SHAPES}


def merge(adapters: list[Adapter], mode: str, **options: object) -> Merge:
    keywords = {
        k: options.pop(k) for k in ("missing", "normalize", "seed", "trim_scope") if k in options
    }
    settings = default_options(mode, len(adapters), **options)  # type: ignore[arg-type]
    return start_merge(adapters, mode, settings, **keywords)  # type: ignore[arg-type]


def check(found: Merge, expected: Mapping[str, Tensor]) -> None:
    assert set(found.modules) == set(SHAPES)
    for name, value in expected.items():
        torch.testing.assert_close(found.dense(name).double(), value, rtol=1e-5, atol=1e-6)


def test_linear_is_the_weighted_sum_of_the_updates(adapters: list[Adapter]) -> None:
    a, b = map(whole, adapters)
    found = merge(adapters, "linear", weights=(0.7, -0.2), lam=2.0)
    check(found, {name: 2 * (0.7 * a[name] - 0.2 * b[name]) for name in SHAPES})


def test_a_missing_module_counts_as_zero_or_not_at_all(adapters: list[Adapter]) -> None:
    a = whole(adapters[0])
    check(merge(adapters, "linear"), {K: a[K] / 2})
    check(merge(adapters, "linear", missing="renorm"), {K: a[K]})


def test_balanced_takes_one_cosine_over_the_whole_adapters(adapters: list[Adapter]) -> None:
    a, b = map(whole, adapters)
    cosine = sum(float((a[n] * b[n]).sum()) for n in SHAPES) / (norm(a) * norm(b))
    share = 1 / (1 + abs(cosine))
    check(merge(adapters, "balanced"), {n: share * (a[n] + b[n]) for n in SHAPES})


def test_auto_without_scores_is_the_average(adapters: list[Adapter]) -> None:
    a, b = map(whole, adapters)
    check(merge(adapters, "auto"), {name: (a[name] + b[name]) / 2 for name in SHAPES})


def test_slerp_keeps_the_arc_between_the_whole_adapters(adapters: list[Adapter]) -> None:
    a, b = map(whole, adapters)
    angle = math.acos(sum(float((a[n] * b[n]).sum()) for n in SHAPES) / (norm(a) * norm(b)))
    first, second = (math.sin(t * angle) / math.sin(angle) for t in (0.75, 0.25))
    check(merge(adapters, "slerp", t=0.25), {n: first * a[n] + second * b[n] for n in SHAPES})


def trim(delta: Tensor, density: float) -> Tensor:
    order = delta.abs().flatten().argsort(descending=True, stable=True)
    kept = torch.zeros_like(delta).flatten()
    places = order[: math.floor(density * delta.numel())]
    kept[places] = delta.flatten()[places]
    return kept.view_as(delta)


def test_ties_trims_elects_and_averages_each_module(adapters: list[Adapter]) -> None:
    expected = {}
    for name in SHAPES:
        a, b = (trim(dense(adapter, name), 0.4) for adapter in adapters)
        elected = (a + b).sign()
        agree = [(t.sign() == elected) & (elected != 0) for t in (a, b)]
        count = sum(x.double() for x in agree)
        expected[name] = (a * agree[0] + b * agree[1]) / count.clamp(min=1)  # type: ignore[union-attr]
    check(merge(adapters, "ties", density=0.4), expected)


@pytest.mark.parametrize("density", [0.1, 0.4, 0.99, 1.0])
def test_trimming_may_be_over_the_whole_adapter(adapters: list[Adapter], density: float) -> None:
    found = merge(adapters[:1], "ties", density=density, trim_scope="adapter")
    updates = whole(adapters[0])
    magnitudes = torch.cat([u.abs().flatten() for u in updates.values()]).sort(descending=True)[0]
    kept = math.floor(density * len(magnitudes))
    check(found, {n: u * (u.abs() >= magnitudes[kept - 1] - 1e-9) for n, u in updates.items()})
    assert sum(int(found.dense(name).count_nonzero()) for name in SHAPES) == kept


def test_normalize_gives_every_adapter_the_mean_norm(tmp_path: Path) -> None:
    small, large = write(tmp_path / "a", 1, 2), write(tmp_path / "b", 2, 2, size=100.0)
    found = merge([small, large], "linear", normalize=True)
    norms = found.gram.diagonal().sqrt()
    assert norms[0] == pytest.approx(norms[1])
    assert norms[0] == pytest.approx((norm(whole(small)) + norm(whole(large))) / 2, rel=1e-5)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "slerp"])
def test_one_adapter_alone_comes_back(mode: str, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", 1, 2)
    prunes = MODES[mode].density is not None
    found = merge([adapter], mode, **({"density": 1.0} if prunes else {}))
    check(found, whole(adapter))


# dare's masks belong to the places in the list
@pytest.mark.parametrize("mode", [mode for mode in MODES if "dare" not in mode])
def test_the_order_of_the_adapters_does_not_matter(mode: str, adapters: list[Adapter]) -> None:
    forth, back = merge(adapters, mode), merge(adapters[::-1], mode)
    for name in SHAPES:
        torch.testing.assert_close(forth.dense(name), back.dense(name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["linear", "balanced", "core_ties", "tsv"])
def test_low_rank_modes_are_exact_at_the_sum_of_the_ranks(
    mode: str, adapters: list[Adapter]
) -> None:
    found = merge(adapters, mode)
    for name in SHAPES:
        update, share = found.low_rank(name)
        assert share == pytest.approx(1.0)
        assert update.rank <= 5
        torch.testing.assert_close(update.dense(), found.dense(name), rtol=1e-4, atol=1e-5)


def test_a_lower_rank_keeps_the_energy_that_is_said(adapters: list[Adapter]) -> None:
    found = merge(adapters, "ties", density=0.5)
    exact = found.dense(Q).double()
    singular = torch.linalg.svdvals(exact).square()
    update, share = found.low_rank(Q, 2)
    assert update.rank == 2
    assert share == pytest.approx(float(singular[:2].sum() / singular.sum()), rel=1e-4)


def test_retention_is_the_share_of_each_update_in_the_result(adapters: list[Adapter]) -> None:
    a, b = map(whole, adapters)
    for mode in ("linear", "ties"):
        found = merge(adapters, mode)
        merged = {name: found.dense(name) for name in SHAPES}
        metrics = {name: found.measure(name, merged[name]) for name in SHAPES}
        summary = report.summarise(found, metrics)
        for index, updates in enumerate((a, b)):
            inner = sum(float((merged[n].double() * updates[n]).sum()) for n in SHAPES)
            assert summary["retention"][index] == pytest.approx(
                inner / norm(updates) ** 2, rel=1e-4
            )
        merged_norm = norm({n: m.double() for n, m in merged.items()})
        assert summary["merged_norm"] == pytest.approx(merged_norm, rel=1e-5)
        assert summary["norms"] == pytest.approx([norm(a), norm(b)], rel=1e-5)


def test_warnings_name_what_a_user_should_know(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", 1, 2), write(tmp_path / "large", 1, 2, size=100.0)
    found = merge([small, large], "linear", weights=(0.1, -0.1))
    metrics = {name: found.measure(name) for name in SHAPES}
    texts = report.warnings([small, large], report.summarise(found, metrics))
    # the same directions, B and A each 10 times as large
    assert any("large is 100.0 times as large as that of small" in text for text in texts)
    assert any("of the update of large is left" in text for text in texts)
    opposite = merge([small, small], "ties", density=0.01)  # floor(0.01 * 48) = 0 entries
    metrics = {name: opposite.measure(name, opposite.dense(name)) for name in SHAPES}
    texts = report.warnings([small, small], report.summarise(opposite, metrics))
    assert any("keeps no entry" in text for text in texts)


def test_opposite_adapters_are_warned_of_and_cancel(tmp_path: Path) -> None:
    first = write(tmp_path / "a", 1, 2)
    tensors = {}
    for name, update in first.updates.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = update.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = -update.b
    second = read_adapter(write_files(tmp_path / "b", tensors, r=2, lora_alpha=3))
    found = merge([first, second], "ties")
    for name in SHAPES:
        assert not found.dense(name).any()
    metrics = {name: found.measure(name, found.dense(name)) for name in SHAPES}
    texts = report.warnings([first, second], report.summarise(found, metrics))
    assert any("cosine -1.00" in text for text in texts)
