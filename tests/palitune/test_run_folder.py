"""Who may write into a run's folder."""

import os
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from common.folder_lock import working_in
from models import loading
from palitune.main import palitune
from tests.helpers import sentence
from tests.official_files import write_vqav2
from tests.palitune.commands import evaluate, run


def test_a_folder_in_which_a_training_works_takes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text("{}")
    with working_in(tmp_path):
        with pytest.raises(ValueError, match="is being written by"), working_in(tmp_path):
            pass
        monkeypatch.setenv("RANK", "1")  # a second process of the same training
        with working_in(tmp_path):
            pass
        monkeypatch.delenv("RANK")
    with working_in(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_made_for_a_run_that_is_refused_goes_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), working_in(tmp_path / "a/b"):
        raise ValueError("bad")
    assert not list(tmp_path.iterdir())


def test_what_went_wrong_is_said_though_the_folder_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), working_in(tmp_path / "a/b"):
        (tmp_path / "a/b").rmdir()
        raise ValueError("bad")


def test_a_worker_that_outlives_its_parent_keeps_no_lock(tmp_path: Path) -> None:
    with working_in(tmp_path):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"!")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 1)  # it is there
    try:
        with working_in(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_of_two_trainings_that_begin_together_one_goes_on(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was loaded")

    monkeypatch.setattr(loading, "load_family", refuse)
    folder = tmp_path / "run"
    with working_in(folder):  # empty still: nothing tells the second one before it writes
        result = run(
            *("digits", "--model_path", pico1, "--output_dir", folder, "--max_steps", 1),
            *("--max_train_samples", 2, "--skip_evaluation", "--lora_rank", 2),
            exit_code=2,
        )
        assert not list(folder.iterdir())
    assert "is being written by another command" in result.output


def test_a_folder_into_which_answers_are_written_takes_no_other_evaluation(
    pico1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, scores = write_vqav2(tmp_path / "data"), tmp_path / "scores"
    words = ("vqav2", pico1, data, "--output_dir", scores)
    evaluate(*words)
    before = {path: path.read_bytes() for path in scores.rglob("*") if path.is_file()}
    monkeypatch.setattr(loading, "load_model", pytest.fail)
    with working_in(scores):
        for more in ((), ("--resume",), ("--predictions", scores / "predictions.jsonl")):
            command = ["eval", "--task", "vqav2", "--data_root", data, "--output_dir", scores]
            command += more if "--predictions" in more else ["--model_path", pico1, *more]
            result = CliRunner().invoke(palitune, [str(word) for word in command])
            found = sentence(result.exit_code, result.output)
            assert "is being written by another command" in found
    assert {path: path.read_bytes() for path in scores.rglob("*") if path.is_file()} == before


def test_a_link_to_nothing_is_no_folder_to_write_into(tmp_path: Path) -> None:
    link = tmp_path / "run"
    link.symlink_to(tmp_path / "unplugged")
    result = run("digits", "--model_path", "tiny", "--output_dir", link, exit_code=2)
    assert f"{link} is a link to nothing" in sentence(result.exit_code, result.output)
