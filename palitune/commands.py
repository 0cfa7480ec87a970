"""The two commands of every task: fine-tune and evaluate. Each is options -> one call."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from finetuning.training.joint import make_sources
from finetuning.training.recipe import GENERATION, Recipe
from models.loading import Dtype
from models.quantization import Quantization
from palitune import options
from palitune.options import Command, Option, count_option
from tasks.base import Task
from tasks.registry import get_task, task_names

if TYPE_CHECKING:
    from finetuning.training.run import Job

DEFAULT_MODEL = "google/paligemma-3b-pt-448"


def finetune_command(task_name: str, recipe: Recipe, model: str = DEFAULT_MODEL) -> click.Command:
    """The command that fine-tunes on a task, or on several at once.

    Args:
        task_name: the task; several have commas between.
        recipe: its best settings; each is the default of an option.
        model: the base that is trained where none is named.
    """
    names = task_name.split(",")
    parameters: list[click.Parameter] = [
        Option(
            ["--config"],
            is_eager=True,
            expose_value=False,
            callback=options.load_config,
            help="Repeat a run: its run.json. Options given beside it win.",
        ),
        Option(
            ["--output_dir"],
            type=click.Path(path_type=Path),
            default=Path("runs", "-".join(["joint", *names]) if len(names) > 1 else task_name),
            show_default=True,
            help="Folder of the run.",
        ),
        Option(["--resume"], is_flag=True, help="Go on with the run in the output folder."),
        Option(["--overwrite"], is_flag=True, help="Replace the run in the output folder."),
        options.model_option(default=model, show_default=True),
        options.revision_option(),
        options.device_option(),
        *options.family_options(),
        *options.source_options(),
        *(_own_options(get_task(task_name)) if len(names) == 1 else []),
        *options.recipe_options(recipe),
        Option(
            ["--use_wandb"], is_flag=True, group="Progress", help="The same as --report_to wandb."
        ),
    ]

    def finetune(**values: Any) -> None:
        from finetuning.training.run import finetune_jointly

        if values.pop("skip_training", False):
            return _score_run(get_task(task_name), values)
        job = make_job(names, values)
        reports = finetune_jointly(job)
        for report in reports:
            click.echo(report.table())
        if reports:
            click.echo(f"Adapter, scores and model card are in {job.output_dir}")

    return Command(
        task_name,
        params=parameters,
        callback=finetune,
        help=f"Fine-tune a vision-language model on {' and '.join(names)} by 4-bit LoRA, then "
        f"score it.{_joint_help(names) if len(names) > 1 else ''}",
    )


def make_job(names: Sequence[str], values: Mapping[str, Any]) -> "Job":
    """What the options of a training command ask for.

    Args:
        names: of the tasks, the first given first.
        values: of every option of the command.

    Raises:
        ValueError: a value is out of its range, or data is not where it should be.
    """
    from finetuning.training.run import Job

    settings = dict(values)
    settings.pop("skip_training", None)
    if settings.pop("use_wandb"):
        settings["report_to"] = "wandb"
    fixed = {name: settings.pop(name) for name in ("output_dir", "resume", "overwrite")}
    tasks = [get_task(name) for name in names]
    (source, *others) = make_sources(tasks, settings)
    return Job(
        task=tasks[0],
        joined=tuple(zip(tasks[1:], others, strict=True)),
        model_path=settings["model_path"],
        revision=settings["revision"],
        model_type=settings["model_type"],
        family_options=options.make_family_options(settings),
        source=source,
        recipe=Recipe(**{entry.name: settings[entry.name] for entry in fields(Recipe)}),
        device=settings["device"],
        settings=settings,
        **fixed,
    )


def _own_options(task: Task) -> list[click.Parameter]:
    """Options of training on one task that make no sense for several."""
    tables = [f"{split}_csv" for split in task.splits] if task.reads_tables else []
    return [
        *(options.table_options(*tables) if tables else []),
        *options.own_file_options(task.name),
        Option(
            ["--skip_training"],
            is_flag=True,
            help="Only score the run in the output folder, as eval.py does.",
        ),
    ]


def _score_run(task: Task, values: Mapping[str, Any]) -> None:
    """Evaluate the adapter of the output folder, on the data that training would score it on."""
    from evaluation.run import evaluate

    if values["skip_evaluation"]:
        raise ValueError("--skip_training and --skip_evaluation leave nothing to do; pass one.")
    if not (values["output_dir"] / "adapter_config.json").is_file():
        raise ValueError(
            f"--skip_training scores the run in --output_dir, and {values['output_dir']} holds "
            "none; train first, or name its folder."
        )
    command = evaluate_command()
    given = ["--task", task.name, "--model_path", str(values["output_dir"])]
    # what the run itself says, its precision and prompt, counts where nothing else is given
    own = {"model_path", "revision", "output_dir", "quantization", "hub_split", "hub_config"}
    source = click.get_current_context().get_parameter_source
    own |= {name for name in GENERATION if source(name) is ParameterSource.DEFAULT}
    with command.make_context("eval", given) as context:
        shared = {name: values[name] for name in context.params.keys() & values.keys() - own}
        evaluate(
            task,
            {
                **context.params,
                **shared,
                **{f"{split}_csv": values.get(f"{split}_csv") for split in task.splits},
                "split": values["eval_split"],
                "batch_size": values["eval_batch_size"] or 2 * values["batch_size"],
            },
        )


def _joint_help(names: Sequence[str]) -> str:
    roots = ",".join(f"{name}=FOLDER" for name in names)
    return (
        " One adapter learns all tasks, each with its own prompt and answers, and is scored on "
        "each. --max_train_samples and --max_eval_samples count per task. --data_root is one for "
        f"all tasks, or {roots}; a task left out there takes its Hub copy."
    )


def evaluate_command() -> click.Command:
    """The command that scores a model, or a file of predictions, on a task's split."""
    output_dir = Option(
        ["--output_dir"],
        type=click.Path(path_type=Path),
        help="Folder for predictions.jsonl and metrics.json [default: evaluation/SPLIT in an "
        "adapter's folder, evaluation/TASK/SPLIT in that of one trained on several tasks, else "
        "runs/evaluation/MODEL/TASK/SPLIT; of a table csv_NAME in SPLIT's place; of a file of "
        "predictions FILE_scores beside it].",
    )

    def evaluate(**values: Any) -> None:
        from evaluation.run import evaluate as run
        from evaluation.run import resolve_model_options

        task, values = resolve_model_options(values)
        run(task, values)

    return Command(
        "eval",
        params=[
            Option(
                ["--task"],
                help=f"One of {', '.join(task_names())} [default: the run's; csv_qa with --csv].",
            ),
            output_dir,
            *_file_options(),
            *_loading_options(),
            *options.source_options(),
            *options.table_options("csv"),
            *options.own_file_options(*task_names()),
            *_example_options(),
            *_metric_options(),
            *_generation_options(),
        ],
        callback=evaluate,
        help="Score a model, an adapter or a file of predictions by the task's official metric.",
    )


def _file_options() -> list[click.Parameter]:
    group = "Predictions"
    return [
        Option(
            ["--predictions"],
            group=group,
            type=click.Path(path_type=Path),
            help="Score this file, as it is written, in place of a model: results in the "
            "leaderboard's format, or a predictions.jsonl. Needs no images.",
        ),
        Option(
            ["--allow_partial"],
            group=group,
            is_flag=True,
            help="Score the examples that it has in common with the split.",
        ),
        Option(
            ["--submission"],
            group=group,
            is_flag=True,
            help="Write the leaderboard's results file too [always where answers are withheld].",
        ),
    ]


def _metric_options() -> list[click.Parameter]:
    group = "Metrics"
    return [
        Option(
            ["--lenient"],
            group=group,
            is_flag=True,
            help="Add common unofficial variants of the metric, under names of their own.",
        ),
        Option(
            ["--text_metrics"],
            group=group,
            is_flag=True,
            help="Add exact match, sacreBLEU, ROUGE and the COCO family, and token statistics.",
        ),
        *options.recipe_options(Recipe(), ("clip_model",)),
        count_option(
            "--num_viz_samples", group, "Draw so many answers, as pictures.", default=0, minimum=0
        ),
    ]


def _loading_options() -> list[click.Parameter]:
    quantizations, dtypes = click.Choice(get_args(Quantization)), click.Choice(get_args(Dtype))
    return [
        options.model_option(),
        Option(["--base_model"], group="Model", help="Base of an adapter, where it has moved."),
        Option(["--lora_path"], group="Model", help="Adapter on top of --model_path."),
        Option(["--run"], group="Model", help="In place of --model_path: the name of a run …"),
        Option(
            ["--runs_dir"],
            group="Model",
            type=click.Path(path_type=Path),
            default=Path("results"),
            show_default=True,
            help="… in this folder or in a folder of it.",
        ),
        options.revision_option(),
        *options.family_options(),
        Option(
            ["--quantization"],
            group="Model",
            type=quantizations,
            help="Precision of the language model [default: an adapter's own, else none].",
        ),
        Option(
            ["--dtype"],
            group="Model",
            type=dtypes,
            default="auto",
            show_default=True,
            help="Precision of the rest and of the arithmetic.",
        ),
        options.device_option(),
    ]


def _example_options() -> list[click.Parameter]:
    return [
        Option(["--split"], group="Data", help="Split to score [default: the task's]."),
        count_option(
            "--max_eval_samples", "Data", "Score a seeded subset of this size [default: all]."
        ),
        Option(["--seed"], group="Data", default=0, show_default=True, help="Of that subset."),
        count_option("--num_workers", "Data", "Processes that read images.", default=0, minimum=0),
    ]


def _generation_options() -> list[click.Parameter]:
    group = "Generation"
    return [
        count_option(
            "--batch_size", group, "Examples at once; no influence on the answers.", default=8
        ),
        *options.recipe_options(None, GENERATION),
        Option(
            ["--prompt_template"],
            group=group,
            help="Prompt with {question} in it [default: the run's, else the task's].",
        ),
        Option(
            ["--system_message"],
            group=group,
            help="What the model is told before the question [default: as the run was told].",
        ),
        count_option(
            "--max_length",
            group,
            "Text budget of the prompt [default: the run's, else the task's].",
            minimum=8,
        ),
        Option(["--truncate"], group=group, is_flag=True, help="Cut prompts over it."),
    ]
