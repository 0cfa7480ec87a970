"""The commands that take a VQA data set and a model through four steps."""

from pathlib import Path
from typing import Any

import click

from experiments.pipeline import STEPS, Commands, run_steps
from experiments.pipeline_config import read_settings
from palitune.command import Command, ExistingFile, Option, count_option, say
from palitune.headers import announce_pipeline
from palitune.scripts import check_evaluation, parse_recipe
from palitune.user_modules import module_options


def pipeline_command() -> click.Group:
    """Return the commands behind `palitune pipeline`."""
    group = click.Group(
        "pipeline",
        help="Take a VQA data set and a model through four steps, or `run` all of them.",
    )
    for name, (_, text) in STEPS.items():
        group.add_command(_command(name, text))
    return group


def _command(name: str, text: str) -> click.Command:
    def callback(**values: Any) -> None:
        commands = Commands(parse_recipe=parse_recipe, check_evaluation=check_evaluation)
        settings = read_settings(values)
        announce_pipeline(settings, text)
        run_steps(settings, name, commands, say)

    return Command(name, params=_options(), callback=callback, help=text)


def _options() -> list[click.Parameter]:
    return [
        Option(
            ["--root"],
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(),
            help="Keep `dataset` and `results` in this folder [default: the current one].",
        ),
        Option(
            ["--model_id"], help="Name the model: a folder, a Hub id or `tiny` [default: MODEL_ID]."
        ),
        Option(["--dataset"], help="Name the data set: a folder or a Hub id [default: DATASET]."),
        Option(["--dataset_config"], help="Take this configuration of the data set."),
        Option(
            ["--env_file"],
            type=click.Path(path_type=Path),
            help="Read MODEL_ID, DATASET, HF_TOKEN, WANDB_API_KEY and others from this file where "
            "the environment lacks them [default: .env if it is there].",
        ),
        *_file_options(),
        *module_options(tasks=False),
        Option(
            ["--onto"],
            type=click.Choice(["auto", "original", "nf4"]),
            default="auto",
            show_default=True,
            help="Merge the adapter onto these weights; auto takes those it was trained on.",
        ),
        Option(
            ["--seed"],
            type=click.IntRange(min=0),
            help="Seed every random choice with this number [default: the training file's, else "
            "0].",
        ),
        count_option(
            "--max_samples",
            "General",
            "Train on and score this many examples at most, to try the steps.",
        ),
    ]


def _file_options() -> list[click.Parameter]:
    file = ExistingFile()
    return [
        Option(
            ["--train_config_path"],
            group="Files (YAML)",
            type=file,
            help="Read the training's settings from this file, by their names in "
            "transformers.TrainingArguments.",
        ),
        Option(
            ["--peft_config_path"],
            group="Files (YAML)",
            type=file,
            help="Read the adapter's settings from this file, by their names in "
            "peft.LoraConfig, and "
            "quantization.",
        ),
        Option(
            ["--vlm_model_config"],
            group="Files (YAML)",
            type=file,
            help="Read model_class and processor_class of each model id, and of the fallback, from "
            "this file [default: VLM_MODEL_CONFIG].",
        ),
        Option(
            ["--vlm_collator_config"],
            group="Files (YAML)",
            type=file,
            help="Read dataset_columns and message_format from this file [default: "
            "VLM_COLLATOR_CONFIG].",
        ),
    ]
