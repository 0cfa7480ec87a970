"""The command that serves a page on which models answer side by side."""

from importlib.util import find_spec
from typing import Any

import click

from common.extras import install_command
from models.checkpoint import adapter_folder
from palitune import options
from palitune.command import Option
from palitune.requests import make_model_request
from palitune.user_modules import OwnCodeCommand, TaskOption, load_modules_of, module_options
from tasks.registry import get_task


def serve_command() -> click.Command:
    """Return the command that serves models on this machine."""
    return OwnCodeCommand(
        "serve",
        params=[
            Option(
                ["--port"],
                type=click.IntRange(0, 65535),
                default=7860,
                show_default=True,
                help="Answer on this port of 127.0.0.1; 0 takes any free one.",
            ),
            TaskOption(
                ["--task"],
                help="Ask and clean as this task does [default: each run's], one of {tasks}.",
            ),
            *module_options(),
            Option(
                ["--model_path", "--model_id"],
                group="Model",
                multiple=True,
                required=True,
                help="Name a model: a folder, a Hub id, or `tiny`; may be repeated with adapters "
                "of one base, and the base.",
            ),
            Option(["--base_model"], group="Model", help="Take this base of the adapters."),
            options.revision_option(),
            *options.family_options(),
            options.quantization_option("the adapters'"),
            options.dtype_option("the adapters'"),
            options.device_option(),
        ],
        callback=_serve,
        help="Serve a page on which models answer side by side about pictures, and a chat "
        "interface for programs, to this machine alone.",
    )


def _serve(port: int, task: str | None, model_path: tuple[str, ...], **values: Any) -> None:
    if find_spec("gradio") is None:
        raise ValueError(f"palitune serve needs Gradio; run `{install_command('demo')}`.")
    from evaluation.sample_questions import sample_questions
    from evaluation.side_by_side import load_side_by_side
    from serving.server import listen, serve

    load_modules_of(model_path, revision=values["revision"])
    base = values.pop("base_model")
    has_adapter = any(adapter_folder(path) for path in model_path) if base else False
    requests = [
        make_model_request(
            path,
            # the base itself may stand among its adapters
            values | {"base_model": None if has_adapter and not adapter_folder(path) else base},
        )
        for path in model_path
    ]
    asked = None if task is None else get_task(task)
    with listen(port) as listener:
        models = load_side_by_side(requests, asked)
        examples = sample_questions(models)
        names = ", ".join(models.candidates)
        click.echo(f"{names}: http://127.0.0.1:{listener.getsockname()[1]} (Ctrl-C ends it)")
        serve(models, examples, listener)
