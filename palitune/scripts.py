"""The scripts of the tasks, by name, and what the words of their commands mean."""

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING

import click

from finetuning.training.recipe import Recipe
from palitune.evaluate import evaluate_command
from palitune.train import finetune_command, make_job
from tasks.registry import built_in_names

if TYPE_CHECKING:
    from finetuning.training.job import Job


def training_command(task_name: str) -> click.Command:
    """Return the command of a task's script in `finetuning/`; one of the user's has none."""
    if task_name not in built_in_names():
        return finetune_command(task_name, Recipe())
    command: click.Command = import_module(f"finetuning.{task_name}").main
    return command


def parse_job(task_name: str, words: Sequence[str]) -> "Job":
    """Return the training that the words of a task's command ask for.

    Raises:
        ValueError: a word is wrong.
    """
    with _context(training_command(task_name), words) as context:
        return make_job([task_name], context.params)


def parse_recipe(task_name: str, words: Sequence[str]) -> Recipe:
    """Return the recipe in the words of a task's command; its data need not be there yet.

    Raises:
        ValueError: a word is wrong.
    """
    values = _context(training_command(task_name), words).params
    return Recipe(**{entry.name: values[entry.name] for entry in fields(Recipe)})


def check_evaluation(words: Sequence[str]) -> None:
    """Raise ValueError where a word of an evaluation's command is wrong."""
    _context(evaluate_command(), words)


def _context(command: click.Command, words: Sequence[str]) -> click.Context:
    try:
        return command.make_context(command.name, list(words))
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error
