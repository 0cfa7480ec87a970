"""Official caption figures in every locale and path, and the true reason where there are none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pycocoevalcap
import pytest

from tasks.metrics.java import explain_end, java_environment, plain_path
from tests.helpers import REPOSITORY

SCORE = (
    "import json; from tasks.metrics.captioning import caption_scores; "
    "s = caption_scores(['a red dog sits on the grass', 'two men'], "
    "[['a dog sits on grass', 'the red dog'], ['two men talk', 'a man']], with_spice=False); "
    "print(json.dumps([s.metrics, s.reasons, s.is_approximate]))"
)


def score(environment: dict[str, str], packages: Path | None = None) -> list[object]:
    path = os.pathsep.join(map(str, filter(None, (packages, REPOSITORY))))
    result = subprocess.run(
        [sys.executable, "-c", SCORE],
        env={**os.environ, **environment, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found: list[object] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def usual() -> list[object]:
    found = score({})
    assert found[0]["METEOR"] and not found[2]  # type: ignore[index]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "it_IT.UTF-8", "LANG": "it_IT.UTF-8"},
        {"JAVA_TOOL_OPTIONS": "-Duser.language=it -Duser.country=IT"},
        {"_JAVA_OPTIONS": "-Duser.language=it"},
        {"LC_ALL": "C"},
    ],
)
def test_the_figures_are_the_same_in_every_locale(
    environment: dict[str, str], usual: list[object]
) -> None:
    assert score(environment) == usual


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C"}], ids=["UTF-8", "C"])
def test_the_figures_are_the_same_in_every_folder(
    environment: dict[str, str], usual: list[object], tmp_path: Path
) -> None:
    place = tmp_path / "a b" / "\ud55c\uae00"
    shutil.copytree(next(iter(pycocoevalcap.__path__)), place / "pycocoevalcap")
    assert score(environment, place) == usual


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (1, b"Error: Could not reserve enough space for object heap", "not enough memory: Error"),
        (1, b"java.lang.OutOfMemoryError: Java heap space", "its memory ran out: java.lang"),
        (1, b"x\njava.lang.UnsupportedClassVersionError: y\n at z", "this Java is too old for it"),
        (1, b"Error: Unable to access jarfile /a/b.jar", "its jar is not there: Error"),
        (-9, b"", "it was killed by signal 9"),
        (1, b"Picked up _JAVA_OPTIONS: -Dx\nno runtime\n", "no runtime"),
        (1, b"Picked up _JAVA_OPTIONS: -Dx\n", "it gave no message"),
    ],
)
def test_the_reason_is_the_true_one(code: int, message: bytes, reason: str) -> None:
    assert reason in explain_end(code, message)


def test_the_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "it_IT.UTF-8")
    monkeypatch.delenv("_JAVA_OPTIONS", raising=False)
    before = dict(os.environ)
    with java_environment():
        assert "-Duser.language=en" in os.environ["_JAVA_OPTIONS"]
    assert dict(os.environ) == before


def test_a_path_without_blanks_leads_to_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b/file").write_text("x")
    with plain_path(tmp_path / "a b") as copy:
        assert (copy / "file").read_text() == "x"
        assert " " not in str(copy) and str(copy).isascii()
    assert (tmp_path / "a b/file").is_file() and not copy.exists()
    with plain_path(tmp_path) as same:
        assert same == tmp_path
