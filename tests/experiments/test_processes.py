"""Commands of ours as processes of their own."""

from pathlib import Path

import pytest

from experiments.processes import MODULE, run_process


def test_folders_and_files_named_like_our_packages_are_not_taken_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "tasks.py").write_text("raise SystemExit('the file of the user')")
    monkeypatch.chdir(tmp_path)
    assert run_process([*MODULE, "palitune.main", "--help"]) == 0
