"""The user's code in records: loaded again where it is the same, refused and told else."""

import logging
from pathlib import Path
from typing import Any

import pytest

from evaluation.own_code import (
    Measure,
    load_recorded,
    measure_of,
    module_words,
    read_used,
    used_code,
)
from models.registry import load_families
from tasks.own_metric import load_metric, with_metric
from tasks.registry import get_task, load_tasks, task_names
from tests.common.test_user_code import WHOLE, write
from tests.helpers import one_sentence
from tests.models.test_own_families import LINES
from tests.own_code import forgetting_own_code


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """What a run with a task, a family and a metric of the user's records; forgotten since."""
    with forgetting_own_code():
        (task,) = load_tasks(write(tmp_path, WHOLE, "own_task.py"))
        (family,) = load_families(write(tmp_path, LINES, "own_family.py"))
        function = "def half(prediction, references):\n    return 0.5\n"
        metric = load_metric(f"{write(tmp_path, function, 'own_metric.py')}:half")
        tasks = [task, with_metric(get_task("csv_qa"), metric.text)]
        return {"own_code": used_code(tasks, family)}


def test_a_record_names_files_and_hashes(record: dict[str, Any], tmp_path: Path) -> None:
    found = [(entry["kind"], entry["names"], entry["path"]) for entry in record["own_code"]]
    assert found == [
        ("task", ["mine"], str(tmp_path / "own_task.py")),
        ("metric", ["half"], str(tmp_path / "own_metric.py")),
        ("family", ["mine"], str(tmp_path / "own_family.py")),
    ]
    assert used_code([get_task("digits")]) == []


def test_what_is_as_it_was_is_loaded_and_said(
    record: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        load_recorded(record, "run.json", is_local=True)
    assert f"task module {tmp_path / 'own_task.py'}, recorded by run.json" in caplog.text
    assert "mine" in task_names()
    words = ["--task_module", "own_task.py", "--family_module", "own_family.py"]
    assert [Path(word).name for word in module_words()] == words


@pytest.mark.parametrize("kind", ["task", "family", "metric"])
def test_what_changed_is_refused_and_not_run(
    record: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    mark = tmp_path / "mark"
    file = tmp_path / f"own_{kind}.py"
    file.write_text(f"open({str(mark)!r}, 'w')\n{file.read_text()}")
    option = "--metric" if kind == "metric" else f"--{kind}_module"
    with one_sentence(f"the {kind} module {file}", "changed", f"{option} {file}"):
        load_recorded(record, "run.json", is_local=True)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["task", "family", "metric"])
def test_what_moved_is_told_with_the_place_where_it_was_looked_for(
    record: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"own_{kind}.py"
    file.unlink()
    with one_sentence(str(file), "not there"):
        load_recorded(record, "run.json", is_local=True)


def test_what_moved_and_was_named_anew_is_taken(
    record: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own_task.py").rename(tmp_path / "own_elsewhere.py")
    load_tasks(str(tmp_path / "own_elsewhere.py"))
    with caplog.at_level(logging.WARNING):
        load_recorded(record, "run.json", is_local=True)
    assert not caplog.text  # the bytes are the same


def test_what_changed_and_was_named_is_taken_with_a_warning(
    record: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_tasks(write(tmp_path, f"{WHOLE}\n# more\n", "own_task.py"))
    with caplog.at_level(logging.WARNING):
        load_recorded(record, "run.json", is_local=True)
    assert "other bytes" in caplog.text and "own_task.py" in caplog.text


def test_code_from_the_hub_is_never_run_unasked(record: dict[str, Any]) -> None:
    with one_sentence("own_task.py", "published", "--task_module"):
        load_recorded(record, "run.json", is_local=False)
    assert "mine" not in task_names()


def test_a_place_that_depends_on_where_one_stands_is_not_run(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record["own_code"][0]["path"] = "own_task.py"
    with one_sentence("own_task.py", "not there"):
        load_recorded(record, "run.json", is_local=True)


def test_the_file_that_is_hashed_is_the_one_that_is_run(
    record: dict[str, Any], tmp_path: Path
) -> None:
    other = write(tmp_path, WHOLE.replace('"mine"', '"other"'), "own_other.py")
    record["own_code"][0]["module"] = other
    with one_sentence("run.json", "own_other.py"):
        load_recorded(record, "run.json", is_local=True)
    assert "other" not in task_names()


@pytest.mark.parametrize("entry", [3, {"kind": "task"}, {"kind": "other"}])
def test_a_record_that_was_edited_is_told(record: dict[str, Any], entry: Any) -> None:
    whole = record["own_code"][0]
    entry = {**whole, "kind": "other"} if entry == {"kind": "other"} else entry
    with one_sentence("run.json is not as it was written", "own_code"):
        read_used({"own_code": [entry]}, "run.json")


def test_a_headline_is_known_without_the_code(record: dict[str, Any]) -> None:
    used = read_used(record, "run.json")
    assert measure_of("mine", None, used) == Measure("mine", "accuracy", 1.0)
    assert measure_of("csv_qa", "half", used) == Measure("csv_qa", "half", 1.0)
    assert measure_of("csv_qa", "vqa_accuracy", used) == Measure("csv_qa", "vqa_accuracy", 100.0)
    assert measure_of("csv_qa", None, used) is get_task("csv_qa")
    assert measure_of("csv_qa", "of_another_version", used).metric_range == 1.0
