"""Where every test must run, a skipped one fails the run, on however many processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

SKIPPED = "import pytest\n\n\ndef test_it():\n    pytest.skip('not here')\n"


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("no_skips", "exit_code"), [("1", 1), ("", 0)])
def test_a_skipped_test_fails_the_run_where_none_may_be(
    processes: int, no_skips: str, exit_code: int, tmp_path: Path
) -> None:
    (tmp_path / "test_skipped.py").write_text(SKIPPED)
    (tmp_path / "test_passed.py").write_text("def test_it():\n    pass\n")
    folders = ["-c", os.devnull, "--rootdir", tmp_path, "--basetemp", tmp_path / "temporary"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", str(processes), *folders],
        cwd=tmp_path,
        env={**os.environ, "PALITUNE_NO_SKIPS": no_skips, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == exit_code, result.stdout + result.stderr
    assert ("1 skipped, none is allowed here" in result.stdout) == bool(no_skips)
