"""What the tests of commands share: bad inputs, and a run that they would damage."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.official_files import write_vqav2
from tests.palitune.bad_inputs import QUESTIONS, write_bad_data, write_bad_models
from tests.palitune.commands import train


@pytest.fixture(scope="module")
def place(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bad data, bad models, and the run of two steps that some would damage."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_bad_data(folder / "data")
    write_vqav2(folder / "data/no_val", num_val=0)
    write_bad_models(folder / "models", pico1)
    train("vqav2", pico1, folder / "data/good", folder / "used", "--max_steps", 2)
    (folder / "home").mkdir()
    return folder


@pytest.fixture(scope="module")
def fill(place: Path, pico1: Path) -> Callable[[str], str]:
    """Puts the folders of this run into a text."""
    return lambda text: text.format(
        place=place,
        data=place / "data",
        models=place / "models",
        used=place / "used",
        pico=pico1,
        questions=QUESTIONS.format("train"),
        question="{question}",
        answer="{answer}",
    )
