"""The plan: its prediction against the real run, what it chooses, and how it goes on when short."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.training import plan as plan_module
from finetuning.training import step_cost
from finetuning.training import trainer as trainer_module
from finetuning.training.plan import Plan, batch_sizes
from finetuning.training.recipe import Recipe
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tests.finetuning.training_jobs import RECIPE, adapter_hash, job, make

SMALL = replace(RECIPE, max_steps=2, save_steps=10)


def planned(loaded: LoadedModel, folder: Path, recipe: Recipe) -> Plan:
    trainer = make(loaded, recipe, folder)
    trainer.model.unload()
    return trainer.plan


def with_room(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(step_cost, "available_bytes", lambda _: room)


@pytest.mark.parametrize("recompute", ["on", "off"])
@pytest.mark.parametrize(
    ("model", "quantization", "batch_size", "accumulation"),
    [("pico1", "nf4", 3, 1), ("tiny", "none", 4, 2), ("tiny", "nf4", 16, 1)],
)
def test_the_peak_of_a_run_is_what_was_predicted(
    model: str,
    quantization: Any,
    batch_size: int,
    accumulation: int,
    recompute: Any,
    pico1: Path,
    tmp_path: Path,
) -> None:
    path = str(pico1) if model == "pico1" else model
    loaded = load_model(resolve(path), quantization=quantization, device="cpu")
    recipe = replace(
        SMALL,
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=recompute,
    )
    trainer = make(loaded, recipe, tmp_path, num_examples=32)
    trainer.train()
    costs = trainer.costs()
    assert costs["predicted_peak_memory"] == pytest.approx(costs["measured_peak_memory"], rel=0.15)
    peak = trainer.plan.peak
    assert trainer.peak.step == pytest.approx(peak.step, rel=0.05)
    assert costs["gradient_checkpointing"] is (recompute == "on")
    layers = trainer.model.get_base_model().model.language_model.layers
    assert layers[0].gradient_checkpointing is (recompute == "on")
    num_kept = sum(not layer.gradient_checkpointing for layer in layers)
    assert costs["num_layers_kept"] == (num_kept if recompute == "on" else None)


def test_activations_are_recomputed_only_where_memory_is_short(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = planned(loaded, tmp_path, replace(SMALL, gradient_checkpointing="off"))
    recomputed = planned(loaded, tmp_path, replace(SMALL, gradient_checkpointing="on"))
    need, states = kept.peak.step, kept.cost.states
    assert recomputed.peak.step < need
    with_room(monkeypatch, need + states)
    assert not planned(loaded, tmp_path, SMALL).recompute
    with_room(monkeypatch, need + states - 1)
    assert planned(loaded, tmp_path, SMALL).recompute


@pytest.fixture(scope="module")
def four_layers() -> LoadedModel:
    return load_model(resolve("tiny"), quantization="none", device="cpu")


@pytest.mark.parametrize("num_kept", [2, 3])
def test_as_many_layers_as_fit_keep_their_activations(
    num_kept: int, four_layers: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, recipe = four_layers, replace(SMALL, logging_steps=1)
    with_room(monkeypatch, 10**12)
    kept = planned(loaded, tmp_path, replace(recipe, gradient_checkpointing="off"))
    recomputed = planned(loaded, tmp_path, replace(recipe, gradient_checkpointing="on"))
    most, least, states = kept.peak.step, recomputed.peak.step, kept.cost.states
    # the last one's are always kept; of the other three each takes a third of the difference
    needed = least + (num_kept - 1) * (most - least) / 3 + states
    with_room(monkeypatch, int(needed) - 1)
    assert planned(loaded, tmp_path, recipe).num_kept == num_kept - 1
    with_room(monkeypatch, int(needed) + 1)
    trainer = make(loaded, recipe, tmp_path)
    layers = trainer.model.get_base_model().model.language_model.layers
    is_again = [layer.gradient_checkpointing for layer in layers]
    assert is_again == [True] * (4 - num_kept) + [False] * num_kept
    plan = trainer.plan
    assert least < plan.peak.step <= plan.cost.room
    assert f"activations of the last {num_kept} layers kept" in plan.cut()
    trainer.train()
    assert trainer.peak.step == pytest.approx(plan.peak.step, rel=0.05)
    smaller = plan.smaller(recipe)
    assert smaller is not None
    assert (smaller.gradient_checkpointing, smaller.batch_size) == ("on", recipe.batch_size)
    trainer.model.unload()
    plain = make(loaded, replace(recipe, gradient_checkpointing="off"), tmp_path)
    plain.train()
    plain.model.unload()
    losses = [[entry.get("loss") for entry in t.state.log_history] for t in (trainer, plain)]
    assert losses[0] == losses[1] and losses[0][0]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_it_fits_where_the_last_layers_alone_have_an_adapter(
    share: float, four_layers: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(SMALL, lora_target_modules=r".*layers\.[23]\..*_proj")
    with_room(monkeypatch, 10**12)
    kept = planned(four_layers, tmp_path, replace(recipe, gradient_checkpointing="off"))
    recomputed = planned(four_layers, tmp_path, replace(recipe, gradient_checkpointing="on"))
    least, most, states = recomputed.peak.step, kept.peak.step, kept.cost.states
    with_room(monkeypatch, int(least + share * (most - least)) + states + 1)
    plan = planned(four_layers, tmp_path, recipe)
    assert plan.recompute and least <= plan.peak.step <= plan.cost.room


def test_a_base_that_was_trained_with_recomputation_takes_no_more_after_it(
    four_layers: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(SMALL, gradient_checkpointing="on")
    first = planned(four_layers, tmp_path, recipe)
    assert planned(four_layers, tmp_path, recipe).peak == first.peak
    tower = four_layers.model.model.vision_tower
    assert not any(module._forward_hooks for module in tower.modules())


@pytest.mark.parametrize(("kept", "expected"), [(100, (False, 1)), (150, (True, 2))])
def test_nothing_is_recomputed_where_that_allows_no_larger_batch(
    kept: int,
    expected: tuple[bool, int],
    four_layers: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = replace(SMALL, batch_size="auto", effective_batch_size=8)
    real = planned(four_layers, tmp_path, auto).cost

    def measured(model: Any, *_: Any, **__: Any) -> Any:
        layers = model.get_base_model().model.language_model.layers
        share = sum(not layer.gradient_checkpointing for layer in layers[:-1]) / 3
        one, two = (step_cost.StepMemory(torch.device("cpu")) for _ in range(2))
        one.held = round(60 + share * (kept - 60))  # bytes of an example
        two.held = 2 * one.held
        one.moments, two.moments = [one.held], [two.held]
        return replace(real, one=one, two=two, adapter=0, room=110)

    monkeypatch.setattr(plan_module, "measure_step", measured)
    plan = planned(four_layers, tmp_path, auto)
    assert plan.batch_size == 1  # two take 120 if all is recomputed
    assert plan.recompute is expected[0]
    assert not plan.recompute or plan.num_kept == expected[1]  # 60 + 30 for each layer more


@pytest.mark.parametrize(
    ("effective", "sizes"), [(1, [1]), (7, [1]), (12, [1, 2, 4]), (16, [1, 2, 4, 8, 16])]
)
def test_sizes_are_powers_of_two_that_divide(effective: int, sizes: list[int]) -> None:
    recipe = Recipe(batch_size="auto", effective_batch_size=effective)
    assert batch_sizes(recipe) == sizes


def test_the_largest_batch_that_fits_is_taken_and_the_effective_one_kept(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = replace(SMALL, batch_size="auto", effective_batch_size=16, gradient_checkpointing="off")
    plan = planned(loaded, tmp_path, auto)
    assert (plan.batch_size, plan.accumulation) == (16, 1)
    with_room(monkeypatch, plan.cost.peak(8, 1).step + plan.cost.states)
    plan = planned(loaded, tmp_path, auto)
    assert (plan.batch_size, plan.accumulation) == (8, 2)
    with_room(monkeypatch, plan.cost.peak(8, 1).step + plan.cost.states - 1)
    plan = planned(loaded, tmp_path, auto)
    assert (plan.batch_size, plan.accumulation) == (4, 4)


def test_a_batch_that_may_not_fit_is_said(
    loaded: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_room(monkeypatch, 0)
    with caplog.at_level("WARNING"):
        plan = planned(loaded, tmp_path, SMALL)
    assert plan.recompute and plan.batch_size == SMALL.batch_size
    assert "Memory may run out" in caplog.text


def out_of_memory_over(limit: int, right: Callable[..., Any]) -> Callable[..., Any]:
    """A loss whose GPU takes so many examples at once, and no more."""

    def loss(model: Any, batch: Any, *arguments: Any) -> Any:
        if len(batch["labels"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return right(model, batch, *arguments)

    return loss


@pytest.mark.parametrize("save_steps", [2, 100])
def test_where_memory_runs_out_it_goes_on_with_half_the_batch_to_the_same_bytes(
    save_steps: int, pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"skip_evaluation": True, "save_steps": save_steps, "gradient_checkpointing": "off"}
    finetune(job(pico1, tmp_path / "two", batch_size=2, gradient_accumulation_steps=2, **settings))
    right = trainer_module.answer_loss
    monkeypatch.setattr(trainer_module, "answer_loss", out_of_memory_over(2, right))
    finetune(job(pico1, tmp_path / "auto", batch_size="auto", effective_batch_size=4, **settings))
    assert adapter_hash(tmp_path / "auto") == adapter_hash(tmp_path / "two")
    with pytest.raises(RuntimeError, match="Memory ran out in training"):
        finetune(job(pico1, tmp_path / "fixed", batch_size=4, **settings))


def test_before_the_batch_is_halved_activations_are_recomputed(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(SMALL, batch_size="auto", effective_batch_size=4)
    recipes, plan = [recipe], planned(loaded, tmp_path, recipe)
    assert (plan.recompute, plan.batch_size, plan.accumulation) == (False, 4, 1)
    while (smaller := plan.smaller(recipe)) is not None:
        recipes.append(smaller)
        plan = planned(loaded, tmp_path, smaller)
    names = ("gradient_checkpointing", "batch_size", "gradient_accumulation_steps")
    cuts = [tuple(getattr(recipe, name) for name in names) for recipe in recipes[1:]]
    assert cuts == [("on", 4, 1), ("on", 2, 2), ("on", 1, 4)]
    assert plan.smaller(replace(SMALL, gradient_checkpointing="off")) is None
