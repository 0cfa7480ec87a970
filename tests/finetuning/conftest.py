"""What test files of this folder share: bad inputs, adapters to merge, documents."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.finetuning.bad_inputs import QUESTIONS, write_bad_data, write_bad_models
from tests.finetuning.commands import train
from tests.finetuning.merge_inputs import write_adapters, write_run
from tests.official_files import write_docvqa, write_vqav2


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


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder a says that it was trained on digits, b on docvqa."""
    folder = write_adapters(tmp_path_factory.mktemp("adapters"))
    write_run(folder / "a", "digits")
    write_run(folder / "b", "docvqa", prompt_template="read: {question}", max_length=200)
    return folder


@pytest.fixture(scope="module")
def docvqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_docvqa(tmp_path_factory.mktemp("docvqa"), num_val=4)
