"""Options that would have no effect are refused; scoring what was trained on is said."""

import csv
import logging
from pathlib import Path

import pytest
from PIL import Image

from common.json_files import write_json
from finetuning.training.job import check_model, load_data
from finetuning.training.recipe import Recipe
from palitune.runs import check_decoding
from palitune.scripts import parse_job
from tasks.registry import get_task
from tests.helpers import sentence
from tests.palitune.commands import run, run_command

DIGITS = ("--data_root", "sample", "--model_path", "tiny")


@pytest.mark.parametrize(
    "option",
    ["--lora_rank 4", "--lora_alpha 8", "--lora_dropout 0.5", "--use_dora", "--use_rslora",
     "--lora_target_modules attention", "--lora_vision"],
)  # fmt: skip
def test_what_the_initial_adapter_decides_is_refused(option: str, tmp_path: Path) -> None:
    words = ("digits", *DIGITS, "--lora_init_from", tmp_path, "--output_dir", tmp_path / "new")
    result = run(*words, *option.split(), exit_code=2)
    name = option.split()[0]
    message = sentence(result.exit_code, result.output)
    assert f"decides {name.removeprefix('--')}; leave out {name}." in message
    with pytest.raises(ValueError, match=f"leave out {name}"):  # as a grid reads it
        parse_job("digits", [*DIGITS, "--lora_init_from", "adapter", *option.split()])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--temperature 0.5", "temperature would change nothing"),
        ("--temperature 0.5 --top_p 0.9", "temperature and top_p would change nothing"),
        ("--min_new_tokens 50 --max_new_tokens 5", "min_new_tokens 50 is over max_new_tokens 5"),
        # digits answers by 4 tokens at most
        ("--min_new_tokens 50", "min_new_tokens 50 is over max_new_tokens"),
    ],
)
def test_generation_that_would_not_be_as_asked_is_refused(
    options: str, told: str, tmp_path: Path
) -> None:
    out = ("--output_dir", tmp_path / "new", *options.split())
    for command in (("train", "digits"), ("eval", "--task", "digits")):
        result = run_command(*command, *DIGITS, *out, exit_code=2)
        assert told in sentence(result.exit_code, result.output)
    assert not (tmp_path / "new").exists()


def test_what_a_run_recorded_counts_beside_what_is_typed(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {})
    for drawn in (True, False):
        settings = {"do_sample": drawn, "temperature": 0.7, "max_new_tokens": 60}
        write_json(tmp_path / "run.json", {"task": "digits", "settings": settings})
        task, model = get_task("digits"), str(tmp_path)
        check_decoding(task, model, None, {"min_new_tokens": 50})
        check_decoding(task, model, None, {"temperature": 1.0})
        if drawn:
            check_decoding(task, model, None, {"temperature": 0.5})
            continue
        with pytest.raises(ValueError, match="temperature would change nothing"):
            check_decoding(task, model, None, {"temperature": 0.5})


def test_settings_of_a_recipe_go_together() -> None:
    assert Recipe(temperature=0.5, do_sample=True).temperature == 0.5
    with pytest.raises(ValueError, match="top_p would change nothing"):
        Recipe(top_p=0.5)
    job = parse_job("digits", [*DIGITS, "--min_new_tokens", "50"])
    with pytest.raises(ValueError, match="min_new_tokens 50 is over"):
        check_model(job)


@pytest.mark.parametrize(("test", "is_said"), [("./train.csv", True), ("test.csv", False)])
def test_scoring_the_examples_of_the_training_is_said(
    test: str,
    is_said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    for name in ("train.csv", "test.csv"):
        with Path(name).open("w", newline="") as file:
            csv.writer(file).writerows([("image", "question", "answer"), ("a.png", "?", "x")])
    columns = ("--instruction_column", "question", "--response_column", "answer")
    words = ("--model_path", "tiny", "--train_csv", "train.csv", "--test_csv", test, *columns)
    job = parse_job("csv_qa", words)
    with caplog.at_level(logging.WARNING):
        load_data(job.tasks[0], job.recipe)
    assert ("is scored on examples that it is trained on" in caplog.text) == is_said
