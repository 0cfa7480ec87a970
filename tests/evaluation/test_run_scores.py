"""Scores of fewer examples do not replace those of more."""

import json
from pathlib import Path

import pytest

from evaluation.result_folder import beside_larger


def write(folder: Path, num_examples: int) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"num_examples": num_examples}))


def test_scores_of_fewer_examples_go_beside_those_of_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "val", 100)
    assert beside_larger(tmp_path / "val", 20) == tmp_path / "val_20_examples"
    assert "holds the scores of 100 examples and is left; those of 20 go to" in caplog.text


@pytest.mark.parametrize("num_examples", [100, 200])
def test_scores_of_as_many_or_more_replace_them_and_that_is_said(
    num_examples: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "val", 100)
    assert beside_larger(tmp_path / "val", num_examples) == tmp_path / "val"
    assert "The scores of 100 examples" in caplog.text and "are replaced" in caplog.text


def test_the_first_scores_are_written_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert beside_larger(tmp_path / "val", 20) == tmp_path / "val"
    assert not caplog.text
