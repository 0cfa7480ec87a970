"""`palitune report` and `palitune runs`, by what a training and an evaluation leave."""

import json
import shutil
from pathlib import Path

import pytest

from finetuning.training.output_folder import working_in
from tests.evaluation.evaluated import save_pair
from tests.helpers import read_json, sentence
from tests.palitune.commands import run_command as run
from tests.palitune.commands import train, write_data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pico1: Path) -> Path:
    """A run that came to its end, and one that was stopped at step 2 of 4."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_data(folder / "data", "vqav2", "flat")
    words = ("--max_steps", 4, "--save_steps", 2, "--quantization", "none")
    train("vqav2", pico1, data, folder / "all/ended", *words)
    stopped = folder / "all/grid/stopped"
    shutil.copytree(folder / "all/ended", stopped)
    (stopped / "trainer_state.json").unlink()
    shutil.rmtree(stopped / "evaluation")
    shutil.rmtree(stopped / "checkpoints/checkpoint-4")
    record = read_json(stopped / "run.json")
    record["settings"]["output_dir"] = str(stopped)
    (stopped / "run.json").write_text(json.dumps(record))
    return folder / "all"


def test_the_runs_are_listed_with_their_scores_and_how_to_go_on(runs: Path) -> None:
    lines = run("runs", runs).output.splitlines()
    metrics = read_json(runs / "ended/evaluation/val/metrics.json")
    ended, stopped = lines[1:3]
    assert ended.split()[:2] == [str(runs / "ended"), "vqav2"]
    assert f"val vqa_accuracy {metrics['value']:.4g}" in ended
    assert "4 of 4" in ended and ended.endswith("finished")
    assert "2 of 4" in stopped and stopped.endswith("stopped")
    (command,) = [line.split() for line in lines if line.startswith("  palitune train")]
    assert "--resume" in command and "ended" not in " ".join(command)
    run(*command[1:], "--skip_evaluation")
    assert "4 of 4" in run("runs", runs / "grid").output
    assert "To go on" not in run("runs", runs).output


def test_a_run_that_another_process_writes_is_running(runs: Path) -> None:
    with working_in(runs / "ended"):
        assert run("runs", runs / "ended").output.splitlines()[1].endswith("running")


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    assert run("runs", tmp_path).output == f"There is no run in {tmp_path}.\n"
    (tmp_path / "run.json").write_text("[]")
    assert "Left out: " in run("runs", tmp_path).output
    result = run("runs", tmp_path / "nowhere", exit_code=2)
    assert "is no folder" in sentence(result.exit_code, result.output)


def test_a_report_joins_evaluations(tmp_path: Path) -> None:
    a, b = save_pair(tmp_path, 12)
    output = tmp_path / "ab.html"
    lines = run("report", a, b / "predictions.jsonl", "--output", output).output.splitlines()
    assert lines == [
        f"A: vqa_accuracy 33.33, {a}",
        f"B: vqa_accuracy 50, {b}",
        f"Wrote {output}: 12 examples, 3 images.",
    ]
    (a / "predictions.jsonl").write_text("no line\n")
    result = run("report", a, b, "--output", output, exit_code=2)
    assert "line 1, is not as eval.py wrote it" in sentence(result.exit_code, result.output)


def test_a_report_of_a_run_is_that_of_its_evaluation(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.html"
    assert "A: vqa_accuracy" in run("report", runs / "ended", "--output", output).output
    assert output.is_file()
