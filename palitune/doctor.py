"""The command that probes a model."""

from collections.abc import Mapping
from typing import Any

import click

from finetuning.training.doctor import DoctorRequest, Fact, check_findings, examine
from finetuning.training.recipe import Recipe
from models.quantization import Quantization
from palitune import options, table_options
from palitune.command import Option
from palitune.requests import make_model_request
from palitune.sources import make_source
from palitune.user_modules import TaskCommand, TaskOption, module_options
from tasks.base import TaskSource
from tasks.registry import built_in_names, get_task

# Not int8: it rounds a token by what else is in the batch, so that no logit is ever the same.
_EXACT: tuple[Quantization, ...] = ("nf4", "none")


def doctor_command() -> click.Command:
    """Return the command that tells whether a model can be trusted to train here."""
    parameters: list[click.Parameter] = [
        options.model_option(required=True),
        options.revision_option(),
        *options.family_options(),
        Option(
            ["--quantization"],
            group="Model",
            type=click.Choice(_EXACT),
            default=Recipe.quantization,
            show_default=True,
            help="Hold the language model in this precision.",
        ),
        options.device_option(),
        TaskOption(
            ["--task"],
            group="Data",
            help="Probe with its examples: one of {tasks} [default: two drawn images].",
        ),
        *module_options(),
        *options.source_options(),
        *table_options.table_options("csv"),
        *table_options.own_file_options(*built_in_names()),
    ]
    return TaskCommand(
        "doctor",
        params=parameters,
        callback=_doctor,
        help="Show what there is to train with, then probe a model: are the labels right, does "
        "padding or the batch change anything, does an answer leak, does it train in 4 bits. "
        "Exit code 0 if all is well.",
    )


def _doctor(**values: Any) -> None:
    verdicts: dict[str, bool] = {}
    for line in examine(make_request(values)):
        if isinstance(line, Fact):
            click.echo(f"{line.name:<12}  {line.text}")
            continue
        name, finding = line
        verdicts[name] = finding.passed
        verdict = click.style("pass", fg="green") if finding.passed else click.style("FAIL", "red")
        click.echo(f"{verdict}  {name:<12}  {finding.reason}")
    failed = [name for name, passed in verdicts.items() if not passed]
    check_findings(failed, len(verdicts), values["model_path"])


def make_request(values: Mapping[str, Any]) -> DoctorRequest:
    """Return the examination that the options of the command ask for."""
    task = get_task(values["task"]) if values["task"] else None
    return DoctorRequest(
        model=make_model_request(values["model_path"], values),
        quantization=values["quantization"],
        task=None if task is None else TaskSource(task, make_source(task, values)),
    )
