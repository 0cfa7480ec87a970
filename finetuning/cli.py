"""`palitune`: every command under one name; the scripts are the same commands."""

import click

from finetuning import coco_captioning, digits, docvqa, gqa, vqav2
from finetuning.commands import evaluate_command
from finetuning.compare import compare_command
from finetuning.demo import demo_command
from finetuning.preview import preview_command
from tasks.registry import get_task, task_names


@click.group()
def palitune() -> None:
    """Fine-tune vision-language models per task and score them by each task's official metric."""


@palitune.group()
def train() -> None:
    """Fine-tune on a task; `palitune train TASK --help` lists the options."""


for _script in (coco_captioning, digits, docvqa, gqa, vqav2):
    train.add_command(_script.main)

palitune.add_command(evaluate_command())
palitune.add_command(compare_command())
palitune.add_command(preview_command())
palitune.add_command(demo_command())


@palitune.command(name="tasks")
def list_tasks() -> None:
    """List the tasks with their metric and splits."""
    for name in task_names():
        task = get_task(name)
        click.echo(f"{name:<16} {task.metric:<13} {', '.join(task.splits)}")
