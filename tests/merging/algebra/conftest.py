"""Fixtures of the tests of merging."""

from pathlib import Path

import pytest
from torch import nn

from merging.algebra.adapters import Adapter
from merging.algebra.reader import read_adapter
from tests.merging.algebra.adapter_files import BASE
from tests.merging.algebra.make_adapters import load_tiny, lora, write_files
from tests.merging.algebra.test_base import write_sharded


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    return load_tiny()


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    return read_adapter(write_files(tmp_path / "a", lora(), base_model_name_or_path=BASE))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_sharded(tmp_path / "base")
    return tmp_path / "base"
