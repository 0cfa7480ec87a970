"""A merge is asked as the runs that went into it asked."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from models.run_record import prompt_settings
from palitune.main import palitune
from tasks.registry import get_task
from tests.helpers import read_json, read_lines
from tests.merging.merge_inputs import run, write_run


def test_a_run_says_how_it_asked_its_own_tasks_alone() -> None:
    settings = {"prompt_template": "p", "max_length": 9, "learning_rate": 1.0}
    single = {"task": "vqav2", "settings": settings}
    assert prompt_settings(single, "vqav2") == {"prompt_template": "p", "max_length": 9}
    assert prompt_settings(single, "gqa") == {}
    assert prompt_settings({"settings": settings}, "vqav2") == {}
    joint = {"task": "vqav2,gqa", "settings": settings}
    assert prompt_settings(joint, "gqa") == prompt_settings(single, "vqav2")
    merged = {"task": "vqav2,gqa", "settings": {}, "asked_as": {"gqa": {"truncate": True}}}
    assert prompt_settings(merged, "gqa") == {"truncate": True}
    assert prompt_settings(merged, "vqav2") == {}


def asked_by_eval(model: Path, task: str, data: Path, output: Path) -> tuple[dict[str, Any], str]:
    """The provenance of a score, and the first prompt."""
    arguments = ("--task", task, "--model_path", model, "--data_root", data)
    limits = ("--max_eval_samples", 1, "--max_new_tokens", 1, "--output_dir", output)
    result = CliRunner().invoke(palitune, ["eval", *map(str, (*arguments, *limits))])
    assert result.exit_code == 0, result.output
    prompt = read_lines(output / "predictions.jsonl")[0]["prompt"]
    return read_json(output / "metrics.json")["provenance"], prompt


@pytest.mark.parametrize(
    ("export", "place"), [("adapter", ""), ("full", ""), ("both", "adapter")]
)  # fmt: skip
def test_a_merge_is_asked_as_the_runs_that_went_into_it_asked(
    export: str, place: str, adapters: Path, docvqa: Path, tmp_path: Path
) -> None:
    result = run(adapters, tmp_path / "out", "--mode", "linear", "--export", export)
    assert result.exit_code == 0, result.output
    model = tmp_path / "out" / place
    assert read_json(model / "run.json")["task"] == "digits,docvqa"
    found, prompt = asked_by_eval(model, "docvqa", docvqa, tmp_path / "docvqa")
    assert (found["prompt_template"], found["max_length"]) == ("read: {question}", 200)
    assert prompt.startswith("read: ")
    assert found["trained_on"] == ["digits", "docvqa"]
    found, _ = asked_by_eval(model, "digits", docvqa, tmp_path / "digits")
    own = get_task("digits")
    assert found["prompt_template"] == own.prompt("paligemma")


def test_a_merge_of_merges_keeps_how_each_task_was_asked(adapters: Path, tmp_path: Path) -> None:
    assert run(adapters, tmp_path / "m", "--mode", "linear").exit_code == 0
    shutil.copytree(adapters / "c", tmp_path / "c")
    write_run(tmp_path / "c", "vqav2", prompt_template="ask {question}")
    result = run(tmp_path, tmp_path / "out", "--mode", "linear", names="mc")
    assert result.exit_code == 0, result.output
    found = read_json(tmp_path / "out/run.json")
    assert found["task"] == "digits,docvqa,vqav2"
    assert found["asked_as"] == {
        "digits": {},
        "docvqa": {"prompt_template": "read: {question}", "max_length": 200},
        "vqav2": {"prompt_template": "ask {question}"},
    }
