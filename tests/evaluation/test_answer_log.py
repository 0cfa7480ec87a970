"""An evaluation that is killed and resumed, on one process and on two, gives the same answers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import evaluation.run
from evaluation.answer_log import AnswerLog, remove_answers
from models.base import Family
from tests.helpers import REPOSITORY, read_json, sentence
from tests.palitune.commands import run

IDENTITY = {"task": "gqa", "batch_size": 4}
COMMAND = ("--task", "gqa", "--model_path", "tiny", "--data_root", "sample", "--batch_size", "2")


def test_answers_are_given_again_as_they_were_added(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path, IDENTITY, resume=False)
    log.add([1, "b"], ["one \n line", "\ud55c"])
    again = AnswerLog(tmp_path, IDENTITY, resume=True)  # the first was killed: it closed nothing
    assert again.answers == {1: "one \n line", "b": "\ud55c"}
    assert again.has([1, "b"]) and not again.has([1, "c"])
    again.add(["c"], ["three"])
    assert AnswerLog(tmp_path, IDENTITY, resume=True).answers.keys() == {1, "b", "c"}
    remove_answers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_line_is_an_answer_less(tmp_path: Path, cut: int) -> None:
    AnswerLog(tmp_path, IDENTITY, resume=False).add([1, 2], ["one", "a longer answer \ud55c"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    # without its line's end alone the last answer is whole
    known = {1: "one"} if cut > 1 else {1: "one", 2: "a longer answer \ud55c"}
    assert AnswerLog(tmp_path, IDENTITY, resume=True).answers == known


def test_answers_of_another_evaluation_are_refused_or_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AnswerLog(tmp_path, IDENTITY, resume=False).add([1], ["one"])
    with pytest.raises(ValueError, match="with batch_size 4, not 8: resume with the same"):
        AnswerLog(tmp_path, {**IDENTITY, "batch_size": 8}, resume=True)
    AnswerLog(tmp_path, IDENTITY, resume=False)
    assert "1 answers that an interrupted evaluation left" in caplog.text
    assert "replaced; --resume goes on with them" in caplog.text
    assert not AnswerLog(tmp_path, IDENTITY, resume=True).answers


def evaluate(
    folder: Path, *more: str, num_processes: int = 1, said: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    start = [sys.executable, "eval.py"]
    if num_processes > 1:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
        start = [*torchrun, str(num_processes), "eval.py"]
    return subprocess.Popen(
        [*start, *COMMAND, "--max_eval_samples", "300", "--output_dir", str(folder), *more],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )


def num_answers(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) - 1 for path in folder.glob(".answers-*"))


def kill_after(process: Any, folder: Path, answers: int) -> None:
    deadline = time.monotonic() + 120
    while num_answers(folder) < answers:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert evaluate(folder).wait(120) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(1, 1, 1), (2, 2, 2), (2, 1, 2)])
def test_killed_twice_it_gives_the_answers_of_one_never_killed(
    processes: tuple[int, int, int], whole: Path, tmp_path: Path
) -> None:
    first, second, last = processes
    kill_after(evaluate(tmp_path, num_processes=first), tmp_path, 20)
    before = num_answers(tmp_path)
    assert 20 <= before < 300 and not (tmp_path / "predictions.jsonl").exists()
    kill_after(evaluate(tmp_path, "--resume", num_processes=second), tmp_path, before + 20)
    assert evaluate(tmp_path, "--resume", num_processes=last).wait(120) == 0
    for name in ("predictions.jsonl", "metrics.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_the_command_that_goes_on(number: int, tmp_path: Path) -> None:
    process = evaluate(tmp_path, said=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while num_answers(tmp_path) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    last = said.decode().rstrip().splitlines()[-1]
    assert last.startswith("  python eval.py --task gqa ") and last.endswith(" --resume")
    assert f"Stopped by {signal.Signals(number).name}" in said.decode()
    assert "Traceback" not in said.decode() and num_answers(tmp_path) >= 20


@pytest.mark.slow
def test_a_process_that_dies_ends_the_evaluation_and_its_answers_stay(tmp_path: Path) -> None:
    process = evaluate(tmp_path, num_processes=2)
    deadline = time.monotonic() + 120
    while num_answers(tmp_path) < 20:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    victim = next(child for child in children if "eval.py" in child.cmdline())
    victim.kill()
    assert process.wait(30) != 0
    assert num_answers(tmp_path) >= 20
    assert not any(child.is_running() for child in children)


def test_a_kill_in_scoring_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (*COMMAND, "--max_eval_samples", "6", "--output_dir", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.run, "score", lambda _: sys.exit(9))
        run("eval", *arguments, exit_code=9)
    assert num_answers(tmp_path) == 6
    monkeypatch.setattr(Family, "generate", lambda *_: pytest.fail("it was asked again"))
    assert "6 answers" in run("eval", *arguments, "--resume").output
    assert num_answers(tmp_path) == 0 and (tmp_path / "metrics.json").is_file()


def test_another_setting_is_refused_before_it_answers(tmp_path: Path) -> None:
    (tmp_path / ".answers-0.jsonl").write_text(
        json.dumps({"identity": {"task": "gqa", "batch_size": 2, "decoding": {"num_beams": 9}}})
    )
    arguments = (*COMMAND, "--max_eval_samples", "4", "--output_dir", tmp_path)
    result = run("eval", *arguments, "--resume", exit_code=2)
    assert "holds answers of an evaluation with" in sentence(result.exit_code, result.output)
    assert not (tmp_path / "predictions.jsonl").exists()
    run("eval", *arguments)
    assert read_json(tmp_path / "metrics.json")["num_examples"] == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"metrics.json", "predictions.jsonl", "report.html"}
