"""Fixtures of the pipeline's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments import pipeline
from tests.experiments.pipeline.helpers import (
    COLLATOR,
    SECRETS,
    VARIABLES,
    Commands,
    save_parts,
    write_yaml,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine's counts, and what `.env` sets is taken back."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    double = Commands()
    monkeypatch.setattr(pipeline, "_run", double)
    yield double


@pytest.fixture
def root(tmp_path: Path, pico1: Path) -> Path:
    """A folder with `.env`, the collator's file and a data set."""
    source = save_parts(tmp_path / "source", train=range(4), val=[4], test=[5])
    collator = write_yaml(tmp_path, COLLATOR, "collator.yaml")
    lines = {"MODEL_ID": pico1, "DATASET": source, "VLM_COLLATOR_CONFIG": collator, **SECRETS}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return tmp_path
