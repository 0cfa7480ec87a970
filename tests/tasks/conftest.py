"""What the task tests share: loading a split, counting opened images, no Java."""

from pathlib import Path

import pytest

from tasks import images
from tasks.base import Dataset, Source
from tasks.registry import get_task
from tests.helpers import Load


@pytest.fixture
def load() -> Load:
    """`load(task, split, data_root)`."""

    def load_(task: str, split: str, data_root: Path) -> Dataset:
        return get_task(task).load(split, Source(data_root=data_root))

    return load_


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images decoded so far."""
    names: list[str] = []
    decode = images.decode_image

    def count(content: bytes, name: str) -> object:
        names.append(name)
        return decode(content, name)

    monkeypatch.setattr(images, "decode_image", count)
    return names


@pytest.fixture
def no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
