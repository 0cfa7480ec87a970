"""The command that shows training examples as the model sees them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evaluation.preview import PreviewRequest, page_path, preview
from palitune import options, table_options
from palitune.command import Option
from palitune.requests import make_model_request, make_prompt_request
from palitune.sources import make_source
from palitune.user_modules import TaskCommand, TaskOption, module_options
from tasks.registry import built_in_names, get_task


def preview_command() -> click.Command:
    """Return the command that shows examples; it loads a processor, no weight."""
    parameters: list[click.Parameter] = [
        TaskOption(["--task"], required=True, help="Show this task, one of {tasks}."),
        *module_options(),
        options.model_option(required=True),
        options.revision_option(),
        *options.family_options(),
        *options.source_options(),
        *table_options.table_options("csv"),
        *table_options.own_file_options(*built_in_names()),
        Option(
            ["--split"], group="Data", help="Show this split [default: the task's for training]."
        ),
        Option(
            ["--num_examples"],
            type=click.IntRange(min=1),
            default=4,
            show_default=True,
            help="Show this many examples.",
        ),
        Option(["--seed"], default=0, show_default=True, help="Draw the examples by this seed."),
        Option(["--prompt_template"], help="Use this prompt; {question} stands for the question."),
        Option(
            ["--max_length"],
            type=click.IntRange(min=8),
            help="Allow this many text tokens an example.",
        ),
        Option(["--truncate"], is_flag=True, help="Cut prompts that are over --max_length."),
        Option(
            ["--output_dir"],
            type=click.Path(path_type=Path),
            default=Path("runs/preview"),
            show_default=True,
            help="Write preview.html to this folder.",
        ),
    ]
    return TaskCommand(
        "preview",
        params=parameters,
        callback=_preview,
        help="Show a few training examples as the model sees them.",
    )


def _preview(**values: Any) -> None:
    request = make_request(values)
    for shown in preview(request):
        click.echo(f"{shown.example.example_id}  {shown.counts}")
        texts = [
            click.style(repr(text), fg="green") if learned else repr(text)
            for text, learned in shown.parts
        ]
        click.echo("  " + " ".join(texts))
    click.echo(f"With images: {page_path(request)}")


def make_request(values: Mapping[str, Any]) -> PreviewRequest:
    """Return the preview that the options of the command ask for."""
    task = get_task(values["task"])
    return PreviewRequest(
        task=task,
        source=make_source(task, values),
        model=make_model_request(values["model_path"], values),
        prompt=make_prompt_request(values),
        split=values["split"],
        num_examples=values["num_examples"],
        seed=values["seed"],
        output_dir=values["output_dir"],
    )
