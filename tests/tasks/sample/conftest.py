"""The embedded data, written once for all tests."""

from pathlib import Path

import pytest

from tasks.sample import WRITERS, sample_root


@pytest.fixture(scope="session")
def roots(sample_cache: None) -> dict[str, Path]:
    """The folder of each task's embedded data."""
    return {name: sample_root(name) for name in WRITERS}
