"""The command that answers a question about images of one's own, or those of a table."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from evaluation.request import ModelRequest, PromptRequest
from palitune import table_options
from palitune.command import Option
from palitune.evaluation_options import loading_options
from palitune.idle import refuse_idle
from palitune.requests import make_model_request, make_prompt_request
from palitune.runs import READER, resolve_model_options, table_reader
from palitune.sources import make_source
from palitune.user_modules import OwnCodeCommand, TaskOption, module_options
from tasks.base import Task


def predict_command() -> click.Command:
    """Return the command that asks a model about images."""
    return OwnCodeCommand(
        "predict",
        params=[
            click.Argument(["images"], type=click.Path(path_type=Path), nargs=-1),
            Option(
                ["--question"],
                default="",
                help="Ask this about each image; of a table, where it has no column of questions.",
            ),
            TaskOption(
                ["--task"],
                help="Ask and clean as this task does [default: the run's; csv_qa with --csv or "
                "--question], one of {tasks}.",
            ),
            *module_options(),
            Option(["--together"], is_flag=True, help="Ask once, about all images in their order."),
            Option(
                ["--json", "as_json"], is_flag=True, help="Print a JSON object for each answer."
            ),
            Option(
                ["--output"],
                type=click.Path(path_type=Path),
                help="Write the table of --csv to this CSV file, with a new column, prediction.",
            ),
            *loading_options(),
            *(option for option in table_options.table_options("csv") if option.name != "question"),
            Option(
                ["--data_root"], group="Tables", help="Look for the table's images here as well."
            ),
            Option(["--prompt_template"], help="Use this prompt; {question} stands for it."),
            Option(["--system_message"], help="Send this system message before it."),
        ],
        callback=_predict,
        help="Answer a question about images: IMAGES are files, or folders with them; or answer "
        "each row of a table.",
    )


def _predict(
    images: tuple[Path, ...], question: str, together: bool, as_json: bool, **values: Any
) -> None:
    if bool(images) == bool(values["csv"]):
        raise ValueError("Name images, or a table by --csv; one of the two.")
    if images:
        names = [option.name or "" for option in table_options.table_options("csv")]
        given = {name for name, value in values.items() if value}
        refuse_idle([*names, "data_root"], given, "it is for a table, and IMAGES are none")
    if together and not images:
        raise ValueError(
            "--together goes with IMAGES; a table says in each row which images belong together."
        )
    if values["output"] and not values["csv"]:
        raise ValueError("--output goes with --csv: it is the table with a column more.")
    if values["model_path"] is None and values["run"] is None:
        raise ValueError("No model is named: pass --model_path, or a run by --run.")
    values = values | {"question": question or None}
    task, values = resolve_model_options(values, READER if question else None)
    model = make_model_request(values["model_path"], values)
    prompt = make_prompt_request(values | {"max_length": None, "truncate": False})
    if values["csv"]:
        _answer_table(task, model, prompt, as_json, values)
        return
    from evaluation.answer_images import ImageQuestions, answer_images

    answers = answer_images(
        ImageQuestions(
            task=task,
            model=model,
            images=images,
            question=question,
            prompt=prompt,
            together=together,
        )
    )
    for answer in answers:
        if as_json:
            click.echo(msgspec.json.encode(asdict(answer) | {"question": question}).decode())
        else:
            click.echo(
                f"{answer.image}: {answer.prediction}" if len(answers) > 1 else answer.prediction
            )


def _answer_table(
    task: Task, model: ModelRequest, prompt: PromptRequest, as_json: bool, values: dict[str, Any]
) -> None:
    """Answer the rows of a table; print the answers, or write them beside its columns."""
    from evaluation.answer_table import TableQuestions, answer_table

    hub = dict.fromkeys(("hub_repo", "hub_config", "hub_split", "hub_revision"))
    reader = table_reader(task)
    source = make_source(reader, {**values, **hub, "hub_columns": ()})
    output = values["output"]
    examples, answers = answer_table(
        TableQuestions(
            task=task, reader=reader, model=model, source=source, prompt=prompt, output=output
        )
    )
    for example, answer in zip(examples, answers, strict=True):
        row = {"id": example.example_id, "question": example.turns[-1].text}
        if as_json:
            click.echo(msgspec.json.encode({**row, **asdict(answer)}).decode())
        elif output is None:
            click.echo(f"{answer.image}: {answer.prediction}")
    if output is not None:
        click.echo(f"The table with {len(answers)} answers is in {output}", err=as_json)
