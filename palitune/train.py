"""The command that fine-tunes on a task or on several at once."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evaluation.request import EvaluationRequest, MetricsRequest
from finetuning.training.recipe import ALL, Recipe
from finetuning.training.run_state import check_came_to_its_end
from finetuning.training.tracker_names import add_tracker
from models.run_record import RUN_FILE, read_run
from models.settings import GENERATION
from palitune import options, table_options
from palitune.closing import eval_words
from palitune.command import Option
from palitune.headers import announce_training
from palitune.push import prepare_push, push_options
from palitune.repeat import load_config
from palitune.results import evaluate_and_show, train_and_show
from palitune.resuming import saying_how_to_resume
from palitune.sources import make_source, make_sources
from palitune.typed import typed_options
from palitune.user_modules import OwnCodeCommand, metric_option, module_options
from tasks.base import Task, TaskSource
from tasks.own_metric import with_metric
from tasks.registry import get_task

if TYPE_CHECKING:
    from finetuning.training.job import Job

DEFAULT_MODEL = "google/paligemma-3b-pt-448"
_OF_ADAPTER = {
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_vision"),
    *("use_dora", "use_rslora"),
}
_OF_SCORING = {
    *("eval_split", "max_eval_samples", "eval_seed", "seed", "num_workers", "on_bad_image"),
    *("prompt_template", "system_message", "max_length", "truncate", "dtype", "eval_batch_size"),
    *("clip_model", "num_viz_samples", "images_budget", *GENERATION),
}
_OF_TRAINING = {
    *(name for name in ALL if name not in _OF_SCORING),
    *("model_path", "revision", "hub_config", "hub_split", "use_wandb", "overwrite", "dry_run"),
}


def finetune_command(task_name: str, recipe: Recipe, model: str = DEFAULT_MODEL) -> click.Command:
    """Return the command that fine-tunes on a task, or on several at once.

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
            callback=load_config,
            help="Repeat the run of this run.json; options given beside it win.",
        ),
        *_folder_options(names),
        *module_options(),
        options.model_option(default=model, show_default=True),
        options.revision_option(),
        options.device_option(),
        *options.family_options(),
        *options.source_options(),
        *(_own_options(get_task(task_name)) if len(names) == 1 else []),
        *options.recipe_options(recipe),
        Option(
            ["--use_wandb"],
            is_flag=True,
            group="Progress",
            help="Report the curves to Weights & Biases, beside what --report_to names.",
        ),
        *push_options(),
    ]

    def finetune(**values: Any) -> None:
        push = prepare_push(values)
        if values.pop("skip_training", False):
            return _score_run(get_task(task_name), values)
        if values.pop("dry_run"):
            return _rehearse(make_job(names, values))
        job = make_job(names, values)
        with saying_how_to_resume(job.output_dir / RUN_FILE):
            train_and_show(job)
        push(values["output_dir"])

    return OwnCodeCommand(
        task_name,
        params=parameters,
        callback=finetune,
        help=f"Fine-tune a vision-language model on {' and '.join(names)} by 4-bit LoRA, then "
        f"score it.{_joint_help(names) if len(names) > 1 else ''}",
    )


def _folder_options(names: Sequence[str]) -> list[click.Parameter]:
    return [
        Option(
            ["--output_dir"],
            type=click.Path(path_type=Path),
            default=Path("runs", "-".join(["joint", *names]) if len(names) > 1 else names[0]),
            show_default=True,
            help="Write the run to this folder.",
        ),
        Option(["--resume"], is_flag=True, help="Resume the run in the output folder."),
        Option(["--overwrite"], is_flag=True, help="Replace the run in the output folder."),
        Option(
            ["--dry_run"],
            is_flag=True,
            help="Print what the training would take of memory and time, by a few steps of it, and "
            "write nothing.",
        ),
    ]


def _rehearse(job: "Job") -> None:
    """Print what the training would take."""
    announce_training(job, is_rehearsal=True)
    from finetuning.training.dry_run import rehearse

    click.echo(rehearse(job))


def make_job(names: Sequence[str], values: Mapping[str, Any]) -> "Job":
    """Return the training that the options of the command ask for.

    Args:
        names: of the tasks, the first given first.
        values: of every option of the command.

    Raises:
        ValueError: a value is out of its range or has no effect, or data is not where it should
            be.
    """
    from finetuning.training.job import Job

    check_came_to_its_end(values["model_path"])
    if values["lora_init_from"] and (idle := sorted(typed_options() & _OF_ADAPTER)):
        raise ValueError(
            f"--lora_init_from goes on from an adapter, which decides {', '.join(idle)}; leave out "
            f"{' and '.join(f'--{name}' for name in idle)}."
        )
    settings = dict(values)
    for name in ("skip_training", "dry_run", "push_to_hub", "private"):
        settings.pop(name, None)
    if settings.pop("use_wandb"):
        settings["report_to"] = add_tracker(settings["report_to"], "wandb")
    fixed = {name: settings.pop(name) for name in ("output_dir", "resume", "overwrite")}
    tasks = [with_metric(get_task(name), settings.get("metric")) for name in names]
    return Job(
        tasks=tuple(map(TaskSource, tasks, make_sources(tasks, settings))),
        model_path=settings["model_path"],
        revision=settings["revision"],
        model_type=settings["model_type"],
        family_options=options.make_family_options(settings),
        recipe=Recipe(**{entry.name: settings[entry.name] for entry in fields(Recipe)}),
        device=settings["device"],
        settings=settings,
        again=partial(eval_words, tasks, fixed["output_dir"], settings),
        **fixed,
    )


def _own_options(task: Task) -> list[click.Parameter]:
    """Options of training on one task that make no sense for several."""
    tables = [f"{split}_csv" for split in task.splits] if task.reads_tables else []
    has_columns = "instruction" in task.columns
    return [
        *(table_options.table_options(*tables, has_columns=has_columns) if tables else []),
        *([metric_option()] if tables else []),
        *table_options.own_file_options(task.name),
        *([table_options.encoding_option()] if task.own_files and not tables else []),
        Option(
            ["--skip_training"],
            is_flag=True,
            help="Only score the run in the output folder, as eval.py does; options of the "
            "training are refused where the run had others.",
        ),
    ]


def _score_run(task: Task, values: Mapping[str, Any]) -> None:
    """Evaluate the adapter of the output folder, on the data that training would score it on."""
    from palitune.requests import make_model_request, make_prompt_request
    from palitune.runs import check_decoding, with_run_reading

    if values["skip_evaluation"]:
        raise ValueError("--skip_training and --skip_evaluation leave nothing to do; pass one.")
    if not (values["output_dir"] / "adapter_config.json").is_file():
        raise ValueError(
            f"--skip_training scores the run in --output_dir, and {values['output_dir']} holds "
            "none; train first, or name its folder."
        )
    _refuse_training_options(values)
    # the run's own precision, revision and answers count, and the two name the training split
    run_settings = dict.fromkeys(("quantization", "revision", "hub_split", "hub_config"))
    values = with_run_reading(task, {**values, **run_settings}, values["output_dir"])
    source = click.get_current_context().get_parameter_source
    decoding = {
        name: values[name]
        for name in GENERATION
        if source(name) is not ParameterSource.DEFAULT and values[name] is not None
    }
    check_decoding(task, str(values["output_dir"]), None, decoding)
    evaluate_and_show(
        EvaluationRequest(
            task=with_metric(task, values.get("metric")),
            source=make_source(task, values),
            model=make_model_request(str(values["output_dir"]), values),
            split=values["eval_split"],
            max_eval_samples=values["max_eval_samples"],
            seed=values["seed"] if values["eval_seed"] is None else values["eval_seed"],
            num_workers=values["num_workers"],
            on_bad_image=values["on_bad_image"],
            batch_size=values["eval_batch_size"],
            decoding=decoding,
            prompt=make_prompt_request(values),
            metrics=MetricsRequest(
                clip_model=values["clip_model"],
                num_viz_samples=values["num_viz_samples"],
                images_budget=values["images_budget"],
            ),
            device=values["device"],
            resume=values["resume"],
        )
    )


def _refuse_training_options(values: Mapping[str, Any]) -> None:
    """Refuse typed options that no scoring reads, unless the run was trained with them."""
    trained_with = read_run(values["output_dir"]).get("settings", {})
    idle = [
        f"--{name}"
        for name in sorted(typed_options() & _OF_TRAINING)
        if name not in trained_with or values[name] != trained_with[name]
    ]
    if idle:
        raise ValueError(
            f"--skip_training scores the run as it was trained and takes no {' or '.join(idle)}; "
            "leave out one or the other."
        )


def _joint_help(names: Sequence[str]) -> str:
    roots = ",".join(f"{name}=FOLDER" for name in names)
    return (
        " One adapter learns all tasks, each with its own prompt and answers, and is scored on "
        "each. --max_train_samples and --max_eval_samples count per task. --data_root is one for "
        f"all tasks, or {roots}; a task left out there takes its Hub copy."
    )
