"""A training that is killed, at any moment, and resumed ends with the bytes of one that was not."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.finetuning.killed_runs import train
from tests.finetuning.training_jobs import adapter_hash, job

pytestmark = pytest.mark.slow

# 24 examples in batches of one, four to a step: six steps an epoch, a checkpoint every two steps
SETTINGS: dict[str, dict[str, Any]] = {
    "nf4": {"num_workers": 0},
    "nf4, workers": {"num_workers": 2},
    "full precision, scored": {"quantization": "none", "eval_steps": 2},
    "workers, scored": {"num_workers": 2, "quantization": "none", "eval_steps": 3},
}


def settings(name: str) -> dict[str, Any]:
    return {
        "batch_size": 1,
        "gradient_accumulation_steps": 4,
        "save_total_limit": 1,
        "skip_evaluation": True,
        **SETTINGS[name],
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_three_times_it_ends_with_the_same_bytes(
    name: str, pico1: Path, tmp_path: Path
) -> None:
    changes = settings(name)
    num_moments = train(job(pico1, tmp_path / "whole", **changes))
    torn = job(pico1, tmp_path / "torn", **changes)
    random = Random(name)
    # the first within the first two steps or their save, so that there may be no checkpoint yet
    moments = [random.randint(1, num_moments // 5), *(random.randint(1, 60) for _ in range(2))]
    for number, moment in enumerate(moments):
        train(replace(torn, resume=number > 0), moment)
    train(replace(torn, resume=True))
    assert adapter_hash(torn.output_dir) == adapter_hash(tmp_path / "whole")


def test_killed_at_each_moment_of_the_first_saves_it_ends_with_the_same_bytes(
    pico1: Path, tmp_path: Path
) -> None:
    changes = {**settings("nf4"), "num_epochs": 1, "max_train_samples": 12, "save_steps": 1}
    num_moments = train(job(pico1, tmp_path / "whole", **changes))
    assert num_moments > 60
    for moment in range(8, num_moments, 11):
        torn = job(pico1, tmp_path / f"torn{moment}", **changes)
        assert train(torn, moment) == 0
        train(replace(torn, resume=True))
        assert adapter_hash(torn.output_dir) == adapter_hash(tmp_path / "whole"), moment


def test_without_the_random_state_the_bytes_are_others(pico1: Path, tmp_path: Path) -> None:
    """The negative control: so the comparison above can fail."""
    changes = settings("nf4")
    train(job(pico1, tmp_path / "whole", **changes))
    torn = job(pico1, tmp_path / "torn", **changes)
    assert train(torn, 100) == 0
    train(replace(torn, resume=True), with_random_state=False)
    assert adapter_hash(torn.output_dir) != adapter_hash(tmp_path / "whole")
