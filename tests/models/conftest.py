"""What the tests of models share."""

from collections.abc import Iterator

import pytest
import torch

from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tests.models.tiny_families import maker


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors this small threads wait for each other longer than they compute."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A small random LLaVA in float32."""
    folder = tmp_path_factory.mktemp("llava")
    maker("llava")(folder)
    return load_model(resolve(str(folder)), quantization="none", dtype="fp32", device="cpu")
