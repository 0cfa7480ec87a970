"""What the tests of the server share: its models, and and one server of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.served import Served, draw, write_models


@pytest.fixture(scope="package")
def models(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"), pico1)


@pytest.fixture(scope="package")
def served(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    server = Served(models, draw(tmp_path_factory.mktemp("image") / "asked.png", (20, 120, 250)))
    yield server
    server.process.kill()
    server.process.communicate()
