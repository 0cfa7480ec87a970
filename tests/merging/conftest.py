"""What the tests of merging share: adapters to merge, and documents to score them on."""

from pathlib import Path

import pytest

from tests.merging.merge_inputs import write_adapters, write_run
from tests.official_files import write_docvqa


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
