"""Who may write into a run's folder."""

from pathlib import Path
from threading import Timer

import pytest

from finetuning.training import output_folder as run_folder
from finetuning.training.output_folder import check_folder, working_in
from tests.palitune.commands import run


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE_S", 0.0)


def test_a_lock_that_is_given_up_soon_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE_S", 5.0)
    before = working_in(tmp_path)
    before.__enter__()
    Timer(0.2, lambda: before.__exit__(None, None, None)).start()
    with working_in(tmp_path):
        pass


def test_a_folder_in_which_a_training_works_takes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text("{}")
    with working_in(tmp_path):
        with pytest.raises(ValueError, match="is being written by another training"):
            check_folder(tmp_path, resume=False, overwrite=True)
        with pytest.raises(ValueError, match="is being written"), working_in(tmp_path):
            pass
        monkeypatch.setenv("RANK", "1")  # a second process of the same training
        with working_in(tmp_path):
            pass
        monkeypatch.delenv("RANK")
    check_folder(tmp_path, resume=False, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_of_two_trainings_that_begin_together_one_goes_on(pico1: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with working_in(folder):  # empty still: nothing tells the second one before it writes
        result = run(
            *("digits", "--model_path", pico1, "--output_dir", folder, "--max_steps", 1),
            *("--max_train_samples", 2, "--skip_evaluation", "--lora_rank", 2),
            exit_code=2,
        )
    assert "is being written by another training" in result.output
    assert not list(folder.iterdir())
