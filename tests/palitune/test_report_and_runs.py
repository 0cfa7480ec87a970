"""`palitune report` and `palitune runs`, by what a training and an evaluation leave."""

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.folder_lock import working_in
from tests.evaluation.evaluated import save_pair
from tests.helpers import REPOSITORY, read_json, read_lines, read_page, sentence
from tests.palitune.commands import run_command as run
from tests.palitune.commands import train, write_data


def stop(ended: Path, stopped: Path) -> Path:
    """Copy a run of 4 steps as it was at step 2."""
    shutil.copytree(ended, stopped)
    for name in ("trainer_state.json", "adapter_config.json", "adapter_model.safetensors"):
        (stopped / name).unlink()
    shutil.rmtree(stopped / "evaluation")
    shutil.rmtree(stopped / "checkpoints/checkpoint-4")
    record = read_json(stopped / "run.json")
    record["settings"]["output_dir"] = str(stopped)
    (stopped / "run.json").write_text(json.dumps(record))
    return stopped


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pico1: Path) -> Path:
    """A run that came to its end, and one that was stopped at step 2 of 4."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_data(folder / "data", "vqav2", "flat")
    words = ("--max_steps", 4, "--save_steps", 2, "--quantization", "none")
    train("vqav2", pico1, data, folder / "all/ended", *words)
    stop(folder / "all/ended", folder / "all/grid/stopped")
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
    said = run(*command[1:], "--skip_evaluation").output
    assert f"\nAdapter and model card are in {runs / 'grid/stopped'}\n" in said
    assert "4 of 4" in run("runs", runs / "grid").output
    assert "To go on" not in run("runs", runs).output


def test_the_page_of_runs_has_their_scores_links_and_how_to_go_on(
    runs: Path, tmp_path: Path
) -> None:
    stopped = stop(runs / "ended", runs / "grid/also stopped")
    page = tmp_path / "pages/runs.html"
    assert f"Wrote {page}." in run("runs", runs, "--html", page).output
    entries = {entry["name"]: entry for entry in read_page(page)["entries"]}
    ended, other = entries["ended"], entries["grid/also stopped"]
    metrics = read_json(runs / "ended/evaluation/val/metrics.json")
    for key in ("metric", "value", "num_examples"):
        assert ended[key] == metrics[key]
    assert ended["interval"] == metrics["uncertainty"]["interval_95"]
    assert (page.parent / ended["report"]).resolve() == runs / "ended/evaluation/val/report.html"
    assert (ended["state"], ended["figures"]) == ("finished", {"step": 4, "steps in all": 4})
    assert ended["settings"]["lora_rank"] == 4
    assert (other["state"], other["value"], other["report"]) == ("stopped", None, None)
    assert other["figures"] == {"step": 2, "steps in all": 4}
    assert f"--output_dir '{stopped}' --resume" in other["reason"]
    before = page.read_bytes()
    run("runs", runs, "--html", page)
    assert page.read_bytes() == before
    shutil.rmtree(stopped)


def test_an_evaluation_outside_of_every_run_is_listed_with_its_model(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(runs / "ended", "all/ended")
    scores = read_json(runs / "ended/evaluation/val/metrics.json")
    base = {"adapter": None, "base_model": str(tmp_path / "merged")}
    tiny = {"adapter": None, "base_model": str(REPOSITORY / "models/tiny")}
    places = {"evaluation/tiny/vqav2/val": tiny, "of a table": base, "file": {}, "ended/own": tiny}
    for place, model in places.items():
        origin = model or {"predictions_file": "answers.json"}
        metrics = {**scores, "value": 12.5, "uncertainty": {}, "provenance": origin}
        Path("all", place).mkdir(parents=True)
        Path("all", place, "metrics.json").write_text(json.dumps(metrics))
    Path("all/of a table/report.html").touch()
    Path("all/other").mkdir()
    Path("all/other/metrics.json").write_text('{"loss": 1}')  # of another program
    lines = run("runs", "all", "--html", "runs.html").output.splitlines()
    rows = [[cell for cell in line.split("  ") if cell] for line in lines[1:5]]
    assert [[cell.strip() for cell in (*row[:4], row[-1])] for row in rows[1:]] == [
        ["all/evaluation/tiny/vqav2/val", "vqav2", "tiny", "val vqa_accuracy 12.5", "evaluation"],
        ["all/file", "vqav2", "answers.json", "val vqa_accuracy 12.5", "evaluation"],
        ["all/of a table", "vqav2", "merged", "val vqa_accuracy 12.5", "evaluation"],
    ]
    assert rows[0][0] == "all/ended" and lines[5] == ""
    assert lines[6:8] == [
        "To see the answers of an evaluation:",
        "  palitune report all/evaluation/tiny/vqav2/val",
    ]
    entries = {entry["name"]: entry for entry in read_page(Path("runs.html"))["entries"]}
    assert entries.keys() == {"ended", "evaluation/tiny/vqav2/val", "file", "of a table"}
    found = entries["of a table"]
    assert (found["state"], found["value"], found["report"]) == (
        *("evaluation", 12.5, "all/of%20a%20table/report.html"),
    )
    assert found["settings"] == {"task": "vqav2", "split": "val", "base": "merged"}


def test_several_evaluations_of_a_run_are_told_apart(runs: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "all/ended"
    shutil.copytree(runs / "ended", run_folder)
    shutil.copytree(run_folder / "evaluation/val", run_folder / "evaluation/val_2_examples")
    metrics = read_json(run_folder / "evaluation/val/metrics.json")
    metrics["uncertainty"] = {}
    for place, value in (("val", 12.5), ("val_2_examples", 50)):
        file = run_folder / "evaluation" / place / "metrics.json"
        file.write_text(json.dumps({**metrics, "value": value}))
    page = tmp_path / "runs.html"
    said = run("runs", tmp_path / "all", "--html", page).output
    assert "  val vqa_accuracy 12.5; val_2_examples vqa_accuracy 50  " in said
    found = {entry["name"]: entry["value"] for entry in read_page(page)["entries"]}
    assert found == {"ended val": 12.5, "ended val_2_examples": 50}


def test_scores_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    assert f"Left out: {tmp_path}/metrics.json is not valid JSON" in run("runs", tmp_path).output


def test_scores_that_cannot_be_read_hide_neither_their_run_nor_others(
    runs: Path, tmp_path: Path
) -> None:
    ended = tmp_path / "a/b/c/d/ended"  # deep, as a grid in a folder of folders
    shutil.copytree(runs / "ended", ended)
    value = read_json(ended / "evaluation/val/metrics.json")["value"]
    torn = ended / "evaluation/test/metrics.json"
    torn.parent.mkdir()
    torn.write_text("{")
    page = tmp_path / "runs.html"
    said = run("runs", tmp_path, "--html", page).output
    assert f"val vqa_accuracy {value:.4g}" in said.splitlines()[1]
    assert f"Left out: {torn} is not valid JSON" in said
    (entry,) = read_page(page)["entries"]
    assert (entry["name"], entry["value"]) == ("a/b/c/d/ended", value)


def test_runs_are_compared_by_their_names(runs: Path) -> None:
    said = run("compare", runs / "ended", runs / "ended/evaluation/val").output
    assert "0 rose, 0 fell" in said


def test_a_file_that_is_no_page_of_runs_is_kept(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "mine.html"
    page.write_text("mine")
    result = run("runs", runs, "--html", page, exit_code=2)
    assert f"{page} is there and is no index; choose" in sentence(result.exit_code, result.output)
    assert page.read_text() == "mine"


def command_in(output: str) -> list[str]:
    """What a sentence says to type, without `palitune`."""
    return shlex.split(output.split("go on with it (palitune ")[1].removesuffix(")."))


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "--base_model", "tiny", "--output", "merged", "--model_a"),
        ("merge", "--model_a", "tiny", "--output", "merged", "--base_model"),
        ("train", "digits", "--model_path"),
    ],
)
def test_whatever_takes_a_model_says_of_an_unfinished_run_how_it_goes_on(
    runs: Path, tmp_path: Path, words: Sequence[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped = stop(runs / "ended", tmp_path / "mine")
    result = run(*words, stopped, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert f"{stopped} holds a training that stopped, with step 2 of 4 saved" in said
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_page_of_a_training_has_the_command_that_answers_an_example_again(
    runs: Path, tmp_path: Path
) -> None:
    folder = runs / "ended/evaluation/val"
    provenance = read_json(folder / "metrics.json")["provenance"]
    rows = read_lines(folder / "predictions.jsonl")
    program, *words = shlex.split(provenance["command"])
    assert program == "palitune"
    run(*words, "--output_dir", tmp_path / "one", "--ids", rows[1]["id"])
    (again,) = read_lines(tmp_path / "one/predictions.jsonl")
    assert again == rows[1]


def test_an_unfinished_run_says_where_it_stands_and_the_command_it_says_goes_on(
    runs: Path, tmp_path: Path
) -> None:
    stopped = stop(runs / "ended", tmp_path / "my run")
    result = run("eval", "--model_path", stopped, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert f"{stopped} holds a training that stopped, with step 2 of 4 saved" in said
    assert f"take its newest checkpoint, {stopped}/checkpoints/checkpoint-2, or" in said
    anew = command_in(said)[:-1]
    assert anew[-2:] == ["--output_dir", str(stopped)]
    result = run(*anew, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert f"--output_dir {stopped} is not empty: it holds a training that stopped, with" in said
    assert "replace it by --overwrite" in said
    run(*command_in(said))
    assert "4 of 4" in run("runs", stopped).output
    assert (stopped / "evaluation/val/metrics.json").is_file()


def test_a_run_at_work_is_waited_for(runs: Path, tmp_path: Path) -> None:
    stopped = stop(runs / "ended", tmp_path / "run")
    with working_in(stopped):
        result = run("eval", "--model_path", stopped, exit_code=2)
    assert "training at work, with step 2 of 4 saved; wait" in sentence(2, result.output)


def test_a_folder_that_is_no_run_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = run("eval", "--model_path", tmp_path, exit_code=2)
    assert f"{tmp_path} is no run that names it (no run.json)" in sentence(2, result.output)
    result = run("eval", "--model_path", tmp_path, "--task", "digits", exit_code=2)
    said = sentence(2, result.output)
    assert "neither config.json nor adapter_config.json, and is no run, as it has no run" in said
    result = run("train", "digits", "--model_path", "tiny", "--output_dir", tmp_path, exit_code=2)
    assert "holds no run (no run.json)" in sentence(2, result.output)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


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


def test_a_page_that_cannot_be_written_is_named_by_its_option(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for words in (("report", runs / "ended", "--output"), ("runs", runs, "--html")):
        result = run(*words, file / "page.html", exit_code=2)
        said = sentence(result.exit_code, result.output)
        assert f"{words[-1]} {file} cannot be written: {file} is a file" in said


def test_a_report_of_a_run_is_that_of_its_evaluation(runs: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.html"
    assert "A: vqa_accuracy" in run("report", runs / "ended", "--output", output).output
    assert output.is_file()
