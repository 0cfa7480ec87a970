"""Compiled decoder layers: the same training, and nothing compiled where it is scored."""

from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from finetuning.training.compiled import as_written
from finetuning.training.recipe import Recipe
from models.loading import LoadedModel
from tests.finetuning.training_jobs import RECIPE, make

SMALL = replace(RECIPE, max_steps=3, save_steps=10, logging_steps=1, lora_dropout=0.0)


def losses(loaded: LoadedModel, folder: Path, recipe: Recipe) -> list[float]:
    trainer = make(loaded, recipe, folder)
    layers = trainer.model.get_decoder().layers
    is_compiled = [layer._compiled_call_impl is not None for layer in layers]
    assert is_compiled == [recipe.compile] * (len(layers) - 1) + [False]  # its MLP is narrowed
    trainer.train()
    with as_written():
        num_graphs = counters["stats"]["unique_graphs"]
        trainer.model(**loaded.family.collate([trainer.train_dataset[0, 0]]))
    assert counters["stats"]["unique_graphs"] == num_graphs
    trainer.model.unload()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_compiled_layers_train_as_those_that_are_not(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # this backend runs what was compiled by PyTorch's own operations: no compiler, same graphs
    compiled = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    plain = losses(loaded, tmp_path, SMALL)
    counters.clear()
    assert losses(loaded, tmp_path, replace(SMALL, compile=True)) == pytest.approx(plain, rel=1e-4)
    assert counters["stats"]["unique_graphs"] >= 1


def test_it_does_not_go_with_recomputation(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compile and gradient_checkpointing on"):
        Recipe(compile=True, gradient_checkpointing="on")
    assert not make(loaded, replace(SMALL, compile=True), tmp_path).plan.recompute
