"""The documentation's own task, metric and family from training to merge, and mistakes in them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import palitune as package
from palitune.main import palitune
from tests.common.test_user_code import WHOLE
from tests.helpers import REPOSITORY, read_json, read_lines, sentence
from tests.own_code import forgetting_own_code, write_blocks

BRIEF = ("--device", "cpu", "--max_eval_samples", "4")
SHORT = (*BRIEF, "--quantization", "none", "--lora_rank", "2", "--max_train_samples", "8")
TABLES = ("--train_csv", "train.csv", "--test_csv", "test.csv")
TRAININGS = {
    "own_task.md": ("swatches", "--task_module", "my_task.py"),
    "own_metric.md": ("csv_qa", *TABLES, "--metric", "my_metric.py:number_match"),
    "own_family.md": (
        *("digits", "--family_module", "my_family.py"),
        *("--model_type", "padded_paligemma"),
    ),
}
# page -> what an evaluation of the run is told of its data, its task and metric
FOLLOWS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "own_task.md": ((), "swatches", "accuracy"),
    "own_metric.md": (("--csv", "test.csv"), "csv_qa", "number_match"),
    "own_family.md": ((), "digits", "accuracy"),
}


def run(*words: object) -> Any:
    """A command that knows nothing of what those before it loaded, as in a process of its own."""
    with forgetting_own_code():
        return CliRunner().invoke(palitune, [str(word) for word in words])


def done(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, f"{words}\n{result.output}\n{result.exception!r}"
    return result.output


def refused(*words: object) -> str:
    result = run(*words)
    return sentence(result.exit_code, result.output)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder outside the repository with the pages' files, tables, and a run of each page."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("tasks.metrics.java.shutil.which", lambda _: None)
        for split in ("train", "test"):
            rows = ["image,instruction,response"]
            for number in range(8):
                Image.new("RGB", (32, 32), (30 * number, 9, 99)).save(f"{split}{number}.png")
                rows.append(f"{split}{number}.png,how many gates?,{number} gates")
            Path(f"{split}.csv").write_text("\n".join(rows) + "\n")
        for page, words in TRAININGS.items():
            write_blocks(page, folder)
            output = ("--output_dir", f"runs/{page[:-3]}")
            done("train", *words, "--model_path", "tiny", "--max_steps", "2", *output, *SHORT)
        yield folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("tasks.metrics.java.shutil.which", lambda _: None)


@pytest.mark.parametrize("page", TRAININGS)
def test_a_run_of_the_page_is_scored_reported_and_merged_without_naming_the_file(
    page: str, tmp_path: Path
) -> None:
    folder = Path("runs", page[:-3])
    data, task, metric = FOLLOWS[page]
    (entry,) = read_json(folder / "run.json")["own_code"]
    assert Path(entry["path"]).parent == Path.cwd()
    scores = tmp_path / "scores"
    text = done("eval", "--model_path", folder, *data, *BRIEF, "--output_dir", scores)
    assert f"{entry['kind']} module {entry['path']}, recorded by" in text
    measured = read_json(scores / "metrics.json")
    assert (measured["task"], measured["metric"]) == (task, metric)
    assert measured["provenance"]["own_code"] == [entry]
    assert measured["provenance"]["prompt_template"] in ("answer en {question}", "{question}")
    trained = next(folder.glob("evaluation/*/predictions.jsonl"))
    assert f"A: {metric}" in done("report", trained, scores, "--output", tmp_path / "report.html")
    merge = ("merge", "--base_model", "tiny", "--model_a", folder, "--model_b", folder)
    where = ("--data_root", ".") if data else ()
    output = tmp_path / "merged"
    done(*merge, "--evaluate", task, *where, *BRIEF, "--mode", "linear", "--output", output)
    assert read_json(output / "run.json")["own_code"] == [entry]
    report = read_json(output / "merge_report.json")["evaluation"]
    assert report["metrics"] == {task: metric}
    assert metric in done("eval", "--model_path", output, *data, *BRIEF)


def test_the_metric_of_the_page_counts_numbers(tmp_path: Path) -> None:
    """The metric of an evaluation, against the rule in its docstring by another way."""
    rows = [{"id": n, "prediction": f"{n + 1 - n % 2} of them"} for n in range(2, 10)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("--csv", "test.csv", "--metric", "my_metric.py:number_match")
    output = ("--predictions", tmp_path / "answers.jsonl", "--output_dir", tmp_path / "out")
    done("eval", "--task", "csv_qa", *words, *output)
    # lines 2 to 9 of the table hold 0 to 7; the answer is the line, made odd: 3 3 5 5 7 7 9 9
    assert [row["score"] for row in read_lines(tmp_path / "out" / "predictions.jsonl")] == [0.0] * 8
    rows = [{"id": n, "prediction": f"about {n - 2}, or so"} for n in range(2, 10)]
    rows[0]["prediction"] = "1 gate"
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done("eval", "--task", "csv_qa", *words, *output)
    assert read_json(tmp_path / "out" / "metrics.json")["value"] == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--task", "swatches"),
        ("preview", "--task", "swatches", "--model_path", "tiny"),
        ("tasks",),
        ("inspect", "train.csv"),
        ("train", "swatches", "--help"),
    ],
)
def test_other_commands_take_the_file(words: tuple[str, ...], tmp_path: Path) -> None:
    output = ("--output_dir", tmp_path) if words[0] == "preview" else ()
    done(*words, "--task_module", "my_task.py", *output)


def test_help_shows_the_name_of_a_loaded_task() -> None:
    for command in ("eval", "predict", "serve", "merge", "doctor", "preview", "check"):
        assert "swatches" in done(command, "--task_module", "my_task.py", "--help"), command
        assert "swatches" not in done(command, "--help")
    assert "swatches" in done("train", "--task_module", "my_task.py", "--help")


def test_a_run_is_repeated_by_its_record_and_joined_with_another_task(tmp_path: Path) -> None:
    config = ("--config", "runs/own_task/run.json", "--output_dir", tmp_path / "again")
    done("train", "swatches", *config)
    again, first = (read_json(f / "run.json") for f in (tmp_path / "again", Path("runs/own_task")))
    assert again["own_code"] == first["own_code"]
    words = ("--task", "digits,swatches", "--task_module", "my_task.py", "--model_path", "tiny")
    done("train", *words, "--max_steps", "1", "--output_dir", tmp_path / "joint", *SHORT)
    assert read_json(tmp_path / "joint" / "run.json")["task"] == "digits,swatches"


def test_an_option_for_a_file_of_an_own_task_is_there(tmp_path: Path) -> None:
    text = f"{WHOLE}\n    own_files = {{'mine_labels': 'Read labels from this file.'}}\n"
    (tmp_path / "own_labels.py").write_text(text)
    words = ("--task_module", tmp_path / "own_labels.py")
    assert "--mine_labels" in done("eval", *words, "--help")
    assert "--mine_labels" in done("train", "mine", *words, "--help")
    missing = ("check", "--task", "mine", *words, "--mine_labels", "no_such_file")
    assert "--mine_labels no_such_file does not exist" in refused(*missing)


@pytest.mark.parametrize(
    ("was", "now", "parts"),
    [
        ("self.check_split(split)", "return {}[split]", ("KeyError: 'train'",)),
        ("number, colour = row", "number = row + 1", ("TypeError",)),
        ("return Dataset(", "return datasets(", ("NameError",)),
        ("self.check_split(split)", "raise RuntimeError('no labels')", ("no labels",)),
    ],
)
def test_an_error_in_a_tasks_code_is_told_with_file_and_line(
    tmp_path: Path, was: str, now: str, parts: tuple[str, ...]
) -> None:
    text = Path("my_task.py").read_text()
    file = tmp_path / "my_broken.py"
    file.write_text(text.replace(was, now))
    line = 1 + text.partition(was)[0].count("\n")
    words = ("check", "--task", "swatches", "--split", "train", "--task_module", file)
    said = refused(*words)
    for part in (f"{file}, line {line}", *parts, "PALITUNE_TRACEBACK"):
        assert part in said


def test_a_run_whose_file_changed_is_scored_where_it_is_named(tmp_path: Path) -> None:
    shutil.copytree("runs/own_task", tmp_path / "run")
    file = tmp_path / "my_task.py"
    shutil.copy("my_task.py", file)
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text().replace(str(Path("my_task.py").absolute()), str(file)))
    words = ("eval", "--model_path", tmp_path / "run", *BRIEF, "--output_dir", tmp_path / "out")
    assert f"task module {file}" in done(*words)
    file.write_text(f"{file.read_text()}\n# a thought\n")
    assert f"the task module {file}, which has changed since" in refused(*words)
    assert "other bytes" in done(*words, "--task_module", file)
    file.unlink()
    assert f"the task module {file}, which is not there" in refused(*words)
    done(*words, "--task_module", "my_task.py")
    done("report", tmp_path / "out", "--output", tmp_path / "report.html")  # needs no code


def test_a_training_that_is_resumed_with_other_code_says_so(tmp_path: Path) -> None:
    file = tmp_path / "my_task.py"
    shutil.copy("my_task.py", file)
    words = ("train", "swatches", "--task_module", file, "--model_path", "tiny", *SHORT)
    words = (*words, "--output_dir", tmp_path / "run", "--skip_evaluation")
    done(*words, "--max_steps", "1")
    file.write_text(f"{file.read_text()}\n# a thought\n")
    text = done(*words, "--max_steps", "2", "--resume")
    assert "was begun with other bytes of your own task" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "runs", "metric"),
    [
        ("swatches.yaml", ["tiny__r2", "tiny__r4"], "accuracy"),
        ("numbers.yaml", ["tiny__r2"], "number_match"),
        ("padded.yaml", ["stretched__r2", "padded__r2"], "accuracy"),
    ],
)
def test_the_grid_of_a_page_trains_its_cells_in_processes(
    grid: str, runs: list[str], metric: str
) -> None:
    text = Path(grid).read_text()
    short = "{max_steps: 1, max_train_samples: 8, max_eval_samples: 4}"
    Path(grid).write_text(text.replace("{num_train_epochs: 1}", short))
    done("ablate", "--config", grid)
    summary = read_json(Path("results", grid[:-5], "ablation_summary.json"))["runs"]
    found = [(row["run"], row["status"], row["metric"]) for row in summary]
    assert found == [(name, "finished", metric) for name in runs]
    assert "finished before" in done("ablate", "--config", grid)


def test_a_task_that_ends_the_program_is_no_success(tmp_path: Path) -> None:
    file = tmp_path / "my_task.py"
    lines = Path("my_task.py").read_text().replace("return Scores(", "raise SystemExit(0)  # ")
    file.write_text(lines)
    words = ("eval", "--task", "swatches", "--task_module", file, "--model_path", "tiny", *BRIEF)
    number = 1 + lines[: lines.index("raise SystemExit")].count("\n")
    assert f"{file}, line {number} ends the program" in refused(*words, "--output_dir", tmp_path)


def test_a_grid_names_the_key_that_is_wrong() -> None:
    text = Path("swatches.yaml").read_text()
    Path("wrong.yaml").write_text(text.replace("my_task.py", "missing.py"))
    assert "wrong.yaml: task_module" in refused("ablate", "--config", "wrong.yaml", "--dry_run")
    Path("wrong.yaml").write_text(f"{text}evaluation: {{metric: anls}}\n")
    assert "evaluation.metric" in refused("ablate", "--config", "wrong.yaml", "--dry_run")


@pytest.mark.parametrize("name", ["models", "tasks", "common"])
@pytest.mark.parametrize("is_file", [True, False])
def test_a_folder_of_the_users_called_as_ours_gets_a_sentence(
    tmp_path: Path, name: str, is_file: bool
) -> None:
    if is_file:
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "my_script.py").write_text("import palitune.main\n")
    for words in (("-m", "palitune.main", "--help"), ("my_script.py",)):
        result = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        said = sentence(result.returncode, result.stdout + result.stderr)
        assert str(tmp_path / name) in said and f"package {name} of PaliTune" in said


def test_our_own_packages_are_not_hidden() -> None:
    assert package._hidden_packages(REPOSITORY) == []
