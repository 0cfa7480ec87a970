"""The adapter that is kept, and a run that goes on or is found finished."""

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from common.folder_lock import working_in
from common.interruption import Interrupted
from finetuning.training.arguments import warn_of_short
from finetuning.training.recipe import Recipe
from finetuning.training.run import finetune
from finetuning.training.run_state import check_came_to_its_end, state_of
from finetuning.training.stopping import StopOnSignal
from models.loading import LoadedModel
from tests.finetuning.training_jobs import RECIPE, adapter_hash, job, make
from tests.helpers import read_json


def best_of(loaded: LoadedModel, recipe: Recipe, folder: Path, scores: Sequence[float]) -> int:
    """Train by these scores; return the step whose weights are kept."""
    at_step: dict[int, Mapping[str, Tensor]] = {}
    remaining = iter(scores)
    trainer: Any = None

    def scorer(model: Any) -> dict[str, float]:
        at_step[trainer.state.global_step] = {
            n: p.detach().clone() for n, p in model.named_parameters() if "lora_B" in n
        }
        return {"accuracy": next(remaining)}

    trainer = make(loaded, recipe, folder, num_examples=16, scorer=scorer)
    trainer.train()
    kept = dict(trainer.model.named_parameters())
    (step,) = [
        step
        for step, weights in at_step.items()
        if all(torch.equal(kept[name], weight) for name, weight in weights.items())
    ]
    return step


@pytest.mark.parametrize(
    ("eval_steps", "save_steps", "scores", "best"),
    [(1, 4, [32.5, 0.0, 0.0, 0.0], 1), (2, 3, [1.0, 5.0, 3.0], 4), (3, 2, [4.0, 2.0], 3)],
)
def test_the_best_score_is_kept_whatever_the_steps_between_checkpoints(
    eval_steps: int,
    save_steps: int,
    scores: list[float],
    best: int,
    loaded: LoadedModel,
    tmp_path: Path,
) -> None:
    recipe = replace(RECIPE, max_steps=len(scores) * eval_steps, eval_steps=eval_steps)
    recipe = replace(recipe, save_steps=save_steps, save_total_limit=1)
    assert best_of(loaded, recipe, tmp_path, scores) == best


def test_a_finished_run_is_not_trained_further(
    pico1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """24 examples in batches of four: five steps end inside an epoch."""
    folder = tmp_path / "run"
    finetune(job(pico1, folder, max_steps=5))
    before, record = adapter_hash(folder), (folder / "run.json").read_bytes()
    costs = read_json(folder / "evaluation/val/metrics.json")["training"]
    for num_steps in (5, 5, 3):
        finetune(job(pico1, folder, max_steps=num_steps, resume=True))
        assert adapter_hash(folder) == before
        assert (folder / "run.json").read_bytes() == record
        assert read_json(folder / "evaluation/val/metrics.json")["training"] == costs
        said = f"Nothing is trained: the run has 5 steps, and {num_steps} are asked for"
        assert said in caplog.text
        caplog.clear()


def test_a_run_that_goes_on_and_stops_is_not_finished(
    pico1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adapter is of the end before, which whatever reads it says."""
    folder = tmp_path / "run"
    finetune(job(pico1, folder, max_steps=2, eval_split="val"))
    before = adapter_hash(folder)
    check_came_to_its_end(str(folder))
    assert (state_of(folder).state, caplog.text.count("of an earlier end")) == ("finished", 0)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(StopOnSignal, "__init__", told_at_once)
        finetune(job(pico1, folder, max_steps=9, resume=True))
    found = state_of(folder)
    assert (found.state, found.step, found.num_steps) == ("stopped", 3, 9)
    assert adapter_hash(folder) == before
    check_came_to_its_end(str(folder))
    assert f"the adapter in {folder} is of an earlier end" in caplog.text
    assert "stopped, with step 3 of 9 saved" in caplog.text
    caplog.clear()
    finetune(job(pico1, folder, max_steps=4, resume=True))
    (folder / "trainer_state.json").unlink()  # as where the scoring after training is killed
    check_came_to_its_end(str(folder))
    assert "of an earlier end" not in caplog.text


def told_at_once(stop: StopOnSignal) -> None:
    stop.number, stop.owner = signal.SIGTERM, os.getpid()


def test_an_evaluation_at_work_in_the_folder_of_the_scores_is_not_written_over(
    pico1: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "run/evaluation/val"
    finetune(job(pico1, tmp_path / "run", max_steps=2))
    before = {path.name: path.read_bytes() for path in scores.iterdir()}
    with (
        working_in(scores),
        pytest.raises(ValueError, match=r"is trained and saved, but not.*--re"),
    ):
        finetune(job(pico1, tmp_path / "run", max_steps=4, resume=True))
    assert {path.name: path.read_bytes() for path in scores.iterdir()} == before
    finetune(job(pico1, tmp_path / "run", max_steps=4, resume=True))
    after = {path.name: path.read_bytes() for path in scores.iterdir()}
    assert after["metrics.json"] != before["metrics.json"]


@pytest.mark.parametrize("place", ["", "checkpoints/checkpoint-2"])
def test_what_a_run_starts_from_is_not_overwritten(
    place: str, pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    finetune(job(pico1, folder, max_steps=2, skip_evaluation=True))
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pico1, "base")
    again = job(pico1, folder, overwrite=True, lora_init_from=str(Path("run", place)), max_steps=1)
    with pytest.raises(ValueError, match=r"would replace --lora_init_from run.*give another"):
        finetune(again)
    with pytest.raises(ValueError, match=r"would replace --model_path base, .*give another"):
        finetune(job(Path("base"), Path("base"), overwrite=True, max_steps=1))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_a_launcher_that_splits_the_model_is_refused(
    name: str, pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"ACCELERATE_USE_{name} asks to split it; start by"):
        finetune(job(pico1, tmp_path / "run", max_steps=1))
    assert not (tmp_path / "run").exists()


def test_more_steps_go_on_at_the_rate_of_the_new_schedule(pico1: Path, tmp_path: Path) -> None:
    changes = {"lr_scheduler_type": "linear", "warmup_steps": 0, "learning_rate": 1e-3}
    finetune(job(pico1, tmp_path, max_steps=2, **changes))
    finetune(job(pico1, tmp_path, max_steps=8, resume=True, **changes))
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    rates = {log["step"]: log["learning_rate"] for log in state["log_history"] if "loss" in log}
    # of 8 steps along a line to 0: the step after k others has (8 - k) / 8 of the peak
    assert rates[3] == pytest.approx(1e-3 * 6 / 8)
    assert rates[8] == pytest.approx(1e-3 * 1 / 8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr_scheduler_type": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        # a step of warmup has 0 of the peak at first, then its share
        (
            {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2},
            [0.0, 0.5, 1.0, 1.0],
        ),
        ({"lr_scheduler_type": "linear", "warmup_steps": 1}, [0.0, 1.0, 2 / 3, 1 / 3]),
        ({"warmup_steps": 0}, [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),  # cosine
    ],
)
def test_the_rate_goes_along_the_schedule(
    changes: dict[str, Any], expected: list[float], loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, max_steps=4, logging_steps=1, learning_rate=1e-3, **changes)
    trainer = make(loaded, recipe, tmp_path, num_examples=16)
    trainer.train()
    rates = [log["learning_rate"] for log in trainer.state.log_history if "loss" in log]
    assert rates == pytest.approx([1e-3 * share for share in expected], abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "most"),
    [({"max_steps": 3, "warmup_steps": 4}, 0.5), ({"max_steps": 1}, 0.0), ({"max_steps": 3}, None)],
)
def test_a_training_that_ends_before_its_rate_is_warmed_up_says_so(
    changes: dict[str, Any],
    most: float | None,
    loaded: LoadedModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The step after k others has k / 4 of the peak, and the last one has 2 before it."""
    recipe = replace(RECIPE, logging_steps=1, learning_rate=1e-3, **changes)
    trainer = make(loaded, recipe, tmp_path, num_examples=16)
    trainer.train()
    rates = [log["learning_rate"] for log in trainer.state.log_history if "loss" in log]
    said = [line for line in caplog.messages if "its learning rate rises over" in line]
    assert len(said) == (most is not None)
    if most is not None:
        assert max(rates) == 1e-3 * most
        assert f"it comes to {1e-3 * most:g} at most, not to 0.001" in said[0]


@pytest.mark.parametrize("num_examples", [16, 15])
def test_a_step_of_more_examples_than_there_are_says_how_many_it_takes(
    num_examples: int, loaded: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = replace(RECIPE, batch_size=8, gradient_accumulation_steps=2)
    make(loaded, recipe, tmp_path, num_examples=num_examples)
    said = "a step takes all 15 examples, as there are fewer than the 16"
    assert (said in caplog.text) is (num_examples == 15)
    assert caplog.text.count("a step takes all") == (num_examples == 15)


@pytest.mark.parametrize(
    ("num_processes", "num_examples", "repeated"),
    [(2, 10, 2), (2, 9, 3), (2, 12, None), (1, 9, None)],  # batches of 2 a process: up to 12
)
def test_examples_that_processes_repeat_are_counted(
    num_processes: int, num_examples: int, repeated: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: Any = SimpleNamespace(
        world_size=num_processes,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        get_warmup_steps=lambda _: 0,
    )
    warn_of_short(arguments, num_steps=3, num_examples=num_examples)
    said = f"repeats examples, {repeated} in all, so that the {num_processes} processes"
    assert (said in caplog.text) is (repeated is not None)
    assert bool(caplog.messages) is (repeated is not None)


def test_gradients_are_not_clipped_where_the_norm_is_0(loaded: LoadedModel, tmp_path: Path) -> None:
    trainer = make(loaded, replace(RECIPE, max_steps=1, max_grad_norm=0.0), tmp_path)
    limits: list[float] = []

    def clip(parameters: Any, max_norm: float, **_: Any) -> Tensor:
        limits.append(max_norm)
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    trainer.accelerator.clip_grad_norm_ = clip
    trainer.train()
    assert set(limits) <= {float("inf")}  # it is measured, for the log
