"""The command that answers a question about images of one's own."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from evaluation.request import ModelRequest
from palitune import options
from palitune.command import Command, Option
from palitune.requests import make_model_request, make_prompt_request
from palitune.runs import resolve_model_options
from tasks.registry import task_names


def predict_command() -> click.Command:
    """Return the command that asks a model about images."""
    return Command(
        "predict",
        params=[
            click.Argument(["images"], type=click.Path(path_type=Path), nargs=-1, required=True),
            Option(["--question"], default="", help="Ask this about each image."),
            Option(
                ["--task"],
                help="Ask and clean as this task does [default: the run's], one of "
                f"{', '.join(task_names())}.",
            ),
            Option(["--json", "as_json"], is_flag=True, help="Print a JSON object for each image."),
            options.model_option(required=True),
            Option(["--base_model"], group="Model", help="Take this base of the adapter."),
            options.revision_option(),
            *options.family_options(),
            options.quantization_option("an adapter's"),
            options.device_option(),
            Option(["--prompt_template"], help="Use this prompt; {question} stands for it."),
            Option(["--system_message"], help="Send this system message before it."),
        ],
        callback=_predict,
        help="Answer a question about images: IMAGES are files, or folders with them.",
    )


def _predict(images: tuple[Path, ...], question: str, as_json: bool, **values: Any) -> None:
    from evaluation.answer_images import ImageQuestions, answer_images

    unset = dict.fromkeys(("run", "lora_path", "csv"))
    task, values = resolve_model_options(unset | values)
    model: ModelRequest = make_model_request(values["model_path"], values)
    answers = answer_images(
        ImageQuestions(
            task=task,
            model=model,
            images=images,
            question=question,
            prompt=make_prompt_request(values | {"max_length": None, "truncate": False}),
        )
    )
    for answer in answers:
        if as_json:
            click.echo(msgspec.json.encode(asdict(answer) | {"question": question}).decode())
        else:
            click.echo(
                f"{answer.image}: {answer.prediction}" if len(answers) > 1 else answer.prediction
            )
