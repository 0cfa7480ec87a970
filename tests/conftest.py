"""What all tests share: no network, no skips where none may be, one cache, pico models."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # a mistake must fail at once, not after retries
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.metrics import java
from tests.helpers import make_pico
from tests.own_code import forgetting_own_code


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where every test must run, as in CI, a skipped one is a failure (see .ci/run)."""
    skipped = terminalreporter.stats.get("skipped", [])
    if os.environ.get("PALITUNE_NO_SKIPS") and skipped:
        terminalreporter.write_line(f"{len(skipped)} skipped, none is allowed here", red=True)
        pytest.exit("tests were skipped", returncode=1)


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The embedded data is written once for all tests, and never into the user's own cache.

    The processes of pytest-xdist share it: a set of data appears whole or not at all.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then each process has a folder of its own in that
        folder = folder.parent
    os.environ["PALITUNE_CACHE"] = str(folder / "cache")


@pytest.fixture(autouse=True)
def own_code() -> Iterator[None]:
    """No test knows the user's code of another."""
    with forgetting_own_code():
        yield


@pytest.fixture(scope="session", params=["gemma", "gemma2"], ids=["paligemma1", "paligemma2"])
def pico(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pico PaliGemma, of the first and of the second generation."""
    return make_pico(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def pico1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pico PaliGemma of the first generation."""
    return make_pico(tmp_path_factory.mktemp("pico1"), "gemma")


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caption scores without Java: approximate, and 12 s faster."""
    monkeypatch.setattr(java.shutil, "which", lambda _: None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
