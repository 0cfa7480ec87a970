"""What users of other programs type is told by its name here."""

import click
import pytest

from common.hints import NAMES, SENTENCES
from finetuning import vqav2
from palitune.main import palitune
from palitune.scripts import training_command
from tasks.registry import task_names
from tests.palitune.commands import run, run_command


def options() -> dict[str, click.Parameter]:
    """Every option of every command, by its names."""
    commands = [*map(training_command, task_names()), *palitune.commands.values()]
    for command in commands:
        if isinstance(command, click.Group):
            commands += command.commands.values()
    return {name: p for command in commands for p in command.params for name in p.opts}


def test_each_name_here_is_an_option_and_each_value_one_that_it_takes() -> None:
    known = options()
    for theirs, meanings in NAMES.items():
        for meaning in meanings:
            name, *values = meaning.split()
            assert name in known, theirs
            for value in values:
                known[name].type_cast_value(click.Context(vqav2.main), value)


def test_no_name_of_others_is_an_option_of_a_training() -> None:
    present = {name.lstrip("-") for p in vqav2.main.params for name in p.opts}
    assert not present & {*NAMES, *SENTENCES}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--lr", "1e-4"], "--lr is --learning_rate here."),
        (["--load-in-4bit"], "--load_in_4bit is --quantization nf4 here."),
        (["--train_batch_size=8"], "--train_batch_size is --batch_size here."),
        (["--do_train"], "--do_train is not needed: this command trains, and eval.py scores."),
        (["--learning_rat", "1"], "Did you mean '--learning_rate'?"),
        (
            ["--num_train_epochs", "3", "--per-device-train-batch-size=4", "--lr", "1e-4"],
            "Error: --num_train_epochs is --num_epochs here; --per_device_train_batch_size is "
            "--batch_size here; --lr is --learning_rate here.\n",
        ),
        (  # options of ours stand between, and one word that is known nowhere
            ["--lr", "-1", "--seed", "3", "--do_train", "--learning_rat", "1", "--lr", "2"],
            "Error: --lr is --learning_rate here; --do_train is not needed: this command trains, "
            "and eval.py scores; --learning_rat is no option here (did you mean --learning_rate?",
        ),
        (
            ["--abcdef", "--ghijkl"],
            "Error: --abcdef is no option here; --ghijkl is no option here.",
        ),
        (["--lr", "1", "--", "--bits", "4"], "Error: --lr is --learning_rate here.\n"),
        (["--lr", "1", "--bits", "4", "--seed"], "Error: --lr is --learning_rate here.\n"),
    ],
)
def test_a_training_tells_what_is_meant(typed: list[str], told: str) -> None:
    assert told in run("vqav2", *typed, exit_code=2).output


def test_a_command_names_only_what_it_has() -> None:
    told = run_command("merge", "--max_samples", "3", exit_code=2).output
    assert "--max_samples is --max_eval_samples here." in told
    told = run_command("compare", "a", "b", "--lr", "3", exit_code=2).output
    assert "No such option '--lr'" in told and "here" not in told


def test_the_version_and_the_short_help() -> None:
    assert "palitune, version 0.1.0" in run_command("--version").output
    for words in (["-h"], ["train", "vqav2", "-h"], ["pipeline", "run", "-h"]):
        assert run_command(*words).output.startswith("Usage:")
