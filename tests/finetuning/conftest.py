"""What the tests of training share."""

from pathlib import Path

import pytest

from models.checkpoint import resolve
from models.loading import LoadedModel, load_model


@pytest.fixture
def loaded(pico1: Path) -> LoadedModel:
    return load_model(resolve(str(pico1)), quantization="nf4", device="cpu")
