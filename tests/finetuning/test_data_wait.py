"""The share of a training's time that is spent waiting for data, and who reads the data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common import workers
from finetuning.training import data_wait
from finetuning.training.data_wait import DataWait
from finetuning.training.examples import EncodedExamples
from finetuning.training.run import finetune
from finetuning.training.trainer import AnswerTrainer
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tests.finetuning.training_jobs import RECIPE, job, make
from tests.helpers import read_json


class Clock:
    """A clock that only moves where a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(data_wait.time, "perf_counter", lambda: self.now)

    def moving(self, function: Any, seconds: float) -> Any:
        def moved(*arguments: Any, **named: Any) -> Any:
            self.now += seconds
            return function(*arguments, **named)

        return moved


@pytest.fixture
def loaded(pico1: Path) -> LoadedModel:
    return load_model(resolve(str(pico1)), quantization="none", dtype="fp32", device="cpu")


def test_what_lies_between_two_steps_counts_for_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits = Clock(monkeypatch), DataWait()
    assert waits.share() is None
    for _ in range(2):
        with waits:
            clock.now += 3
        clock.now += 1
        waits.on_step_end(None, None, None)  # type: ignore[arg-type]
        clock.now += 50  # a scoring
    assert waits.share() == 6 / 8


def test_a_training_measures_its_own_share(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    read, loss = EncodedExamples.__getitems__, AnswerTrainer.compute_loss
    monkeypatch.setattr(EncodedExamples, "__getitems__", clock.moving(read, 12))
    monkeypatch.setattr(AnswerTrainer, "compute_loss", clock.moving(loss, 4))
    changes: dict[str, Any] = {"max_train_samples": 8, "num_epochs": 3, "save_steps": 100}
    changes |= {"skip_evaluation": True, "quantization": "none"}
    finetune(job(pico1, tmp_path / "run", **changes))
    logs = read_json(tmp_path / "run/trainer_state.json")["log_history"]
    # each of 3 epochs has 2 steps of 4 examples
    name = "training_data_wait_share"
    shares = [log[name] for log in logs if name in log]
    assert shares == [3 * 2 * 12 / (3 * 2 * 12 + 3 * 2 * 4)]


@pytest.mark.parametrize(("few", "num_workers"), [(9, 0), (8, 2)])
def test_many_examples_are_read_by_workers(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, num_workers: int
) -> None:
    assert RECIPE.num_workers == "auto"
    monkeypatch.setattr(workers, "usable_cpus", lambda: 3)
    monkeypatch.setattr(workers, "FEW_EXAMPLES", few)
    arguments = make(loaded, RECIPE, tmp_path, num_examples=8).args
    assert arguments.dataloader_num_workers == num_workers


def test_another_word_than_auto_is_refused() -> None:
    with pytest.raises(ValueError, match="num_workers must be a number or auto, got many"):
        replace(RECIPE, num_workers="many")  # type: ignore[arg-type]
