"""The example files that a command writes, and the packages that a sentence names."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from common.extras import install_command
from experiments.ablation import read_ablation
from palitune.main import palitune
from tests.helpers import REPOSITORY, hashes, sentence


def test_the_example_files_are_those_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # what is there already, and is the same, is no fault
        result = CliRunner().invoke(palitune, ["configs"])
        assert result.exit_code == 0, result.output
    assert hashes(tmp_path / "configs") == hashes(REPOSITORY / "configs")
    assert result.output.splitlines() == [
        *(f"configs/pipeline/{name}.yaml" for name in ("collator", "model", "peft", "train")),
        *("configs/sweep.yaml", "configs/vlm_ablation.yaml"),
    ]
    assert read_ablation(tmp_path / "configs" / "vlm_ablation.yaml").experiment_name


def test_a_file_of_the_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "vlm_ablation.yaml").write_text("mine: 1\n")
    result = CliRunner().invoke(palitune, ["configs", str(tmp_path)])
    text = sentence(result.exit_code, result.output)
    assert text.endswith("vlm_ablation.yaml is there and is another file; name another folder.")
    assert hashes(tmp_path).keys() == {"vlm_ablation.yaml"}  # and no other was written
    assert (tmp_path / "vlm_ablation.yaml").read_text() == "mine: 1\n"


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(palitune, ["configs", str(tmp_path / "file")])
    assert "file" in sentence(result.exit_code, result.output)


def test_the_packages_of_an_extra_are_named_with_their_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = ["click>=8.4", 'ray>=2.50; extra == "ray"', 'x<3,>=2; extra == "rayon"']
    monkeypatch.setattr("common.extras.requires", lambda _: listed)
    assert install_command("ray") == "pip install 'ray>=2.50'"
    assert install_command("rayon") == "pip install 'x<3,>=2'"
