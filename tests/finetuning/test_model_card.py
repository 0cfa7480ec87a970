"""The model card, and where curves go."""

import os
from pathlib import Path
from typing import Any

import pytest

from finetuning.training.model_card import model_card
from finetuning.training.tracking import tracked


def run(base: str) -> dict[str, Any]:
    settings = dict.fromkeys(
        ("quantization", "lora_rank", "lora_alpha", "learning_rate", "num_epochs", "seed"), 1
    )
    data = {"num_examples": 3, "split": "train"}
    revision = None if Path(base).is_absolute() else "a" * 40
    return {
        "task": "digits",
        "base_model": base,
        "base_revision": revision,
        "train_data": data,
        "settings": settings,
    }


def test_the_card_names_a_base_on_the_hub_and_no_path() -> None:
    assert "base_model: org/model\n" in model_card(run("org/model"), [], num_steps=1)
    card = model_card(run("/home/me/models/mine"), [], num_steps=1)
    assert "base_model" not in card and "/home/me" not in card
    assert "# mine fine-tuned on digits" in card


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [(None, None, "palitune"), (None, "theirs", "theirs"), ("mine", "theirs", "mine")],
)
def test_the_project_is_the_options_or_the_environments(
    option: str | None,
    environment: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_PROJECT", environment or "")
    if environment is None:
        monkeypatch.delenv("WANDB_PROJECT")
    with tracked("wandb", option, tmp_path):
        assert os.environ["WANDB_PROJECT"] == expected
    assert os.environ.get("WANDB_PROJECT") == environment


def test_of_two_trainings_each_reports_into_its_own_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for name in ("one", "two"):
        with tracked("wandb", None, tmp_path / name):
            assert os.environ["WANDB_DIR"] == str(tmp_path / name)
    with tracked("tensorboard", None, tmp_path):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "tensorboard")
    assert not {"WANDB_DIR", "TENSORBOARD_LOGGING_DIR"} & os.environ.keys()
