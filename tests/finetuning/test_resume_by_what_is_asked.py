"""A resumed run goes on by what is asked for now, and from its own files where they lie now."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from finetuning.training.checkpoints import newest
from finetuning.training.recipe import Recipe
from finetuning.training.run import finetune
from finetuning.training.trainer import AnswerTrainer
from models.loading import LoadedModel
from tests.finetuning.training_jobs import RECIPE, adapter_hash, job, make

SCORED = replace(RECIPE, max_steps=4, eval_steps=1, save_total_limit=10)


def trained(
    loaded: LoadedModel, recipe: Recipe, folder: Path, scores: Sequence[float] | None = None
) -> AnswerTrainer:
    """Train, from the newest checkpoint where there is one; a scoring too many is an error."""
    remaining = iter(scores or ())
    scorer = None if scores is None else lambda model: {"accuracy": next(remaining)}
    trainer = make(loaded, recipe, folder, num_examples=16, scorer=scorer)
    last = newest(folder)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    assert next(remaining, None) is None
    return trainer


def updates(trainer: AnswerTrainer) -> dict[str, Tensor]:
    """The trained B of each layer."""
    named = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_B" in n}
    trainer.model.unload()
    return {name.replace(".default", ""): tensor for name, tensor in named.items()}


def test_a_copy_of_a_run_keeps_its_own_best(loaded: LoadedModel, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    best = updates(trained(loaded, SCORED, run, [10.0, 40.0, 30.0, 20.0]))
    shutil.copytree(run, copy)
    # the run goes its own way: what its best checkpoint holds is another adapter's
    weights = run / "checkpoints/checkpoint-2/adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    found = updates(trained(loaded, SCORED, copy, []))
    assert found.keys() == best.keys()
    assert all(torch.equal(found[name], best[name]) for name in best)
    shutil.rmtree(run)  # nor does it matter that the run is gone
    found = updates(trained(loaded, SCORED, copy, []))
    assert all(torch.equal(found[name], best[name]) for name in best)


def test_what_stopped_early_goes_on_with_more_patience_alone(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(SCORED, max_steps=9, early_stopping_patience=2)
    for scores in ([10.0, 20.0, 15.0, 20.0], []):  # step 4 is the second without a better one
        trainer = trained(loaded, recipe, tmp_path, scores)
        trainer.model.unload()
        assert trainer.state.global_step == 4
    patient = replace(recipe, early_stopping_patience=4)
    trainer = trained(loaded, patient, tmp_path, [20.0, 20.0])
    trainer.model.unload()
    assert trainer.state.global_step == 6


def test_steps_between_logs_and_checkpoints_are_those_asked_for_now(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, save_total_limit=10)
    trained(
        loaded, replace(recipe, max_steps=4, save_steps=4, logging_steps=4), tmp_path
    ).model.unload()
    trainer = trained(loaded, replace(recipe, max_steps=7, save_steps=1, logging_steps=1), tmp_path)
    trainer.model.unload()
    assert [log["step"] for log in trainer.state.log_history if "loss" in log] == [4, 5, 6, 7]
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {f"checkpoint-{step}" for step in (4, 5, 6, 7)}


def test_a_run_that_stopped_early_is_finished(
    pico1: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {"max_steps": 6, "eval_steps": 1, "early_stopping_patience": 1}
    changes |= {"learning_rate": 1e-12, "save_steps": None}  # no answer ever changes
    finetune(job(pico1, tmp_path, **changes))
    before = adapter_hash(tmp_path)
    (tmp_path / "trainer_state.json").unlink()  # as a kill in the last scoring leaves it
    with caplog.at_level(logging.WARNING):
        finetune(job(pico1, tmp_path, resume=True, **changes))
    assert "Nothing is trained: the run stopped early at step 2" in caplog.text
    assert adapter_hash(tmp_path) == before
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 2


def test_scores_of_other_examples_do_not_compete(pico1: Path, tmp_path: Path) -> None:
    finetune(job(pico1, tmp_path, max_steps=2, eval_steps=1))
    with pytest.raises(ValueError, match=r"had chosen_by .*'num_examples': 4.*'num_examples': 3"):
        finetune(job(pico1, tmp_path, max_steps=3, eval_steps=1, max_eval_samples=3, resume=True))
    # nothing is chosen where nothing is scored on the way
    finetune(job(pico1, tmp_path, max_steps=3, max_eval_samples=3, resume=True))
