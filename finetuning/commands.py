"""The two commands of every task: fine-tune and evaluate. Each is options -> one call."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click

from finetuning import options, run_folder
from finetuning.options import Command, Option
from finetuning.prompting import check_template, check_texts, make_prompter
from finetuning.recipe import Recipe
from models.loading import Dtype
from models.quantization import Quantization
from tasks.base import Dataset, Source, Task, resolve_split
from tasks.images import check_dataset
from tasks.registry import get_task, task_names

DEFAULT_MODEL = "google/paligemma-3b-pt-448"


def _model_option(**kwargs: Any) -> Option:
    return Option(
        ["--model_path"],
        group="Model",
        help="Folder, Hub id, or `tiny` for the embedded model.",
        **kwargs,
    )


def _revision_option() -> Option:
    return Option(["--revision"], group="Model", help="Revision of the Hub repository.")


def _device_option() -> Option:
    return Option(
        ["--device"],
        group="Model",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or cuda:N.",
    )


def finetune_command(task_name: str, recipe: Recipe) -> click.Command:
    """The command that fine-tunes on one task.

    Args:
        task_name: the task.
        recipe: its best settings; each is the default of an option.
    """
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
            default=Path("runs") / task_name,
            show_default=True,
            help="Folder of the run.",
        ),
        Option(["--resume"], is_flag=True, help="Go on with the run in the output folder."),
        Option(["--overwrite"], is_flag=True, help="Replace the run in the output folder."),
        _model_option(default=DEFAULT_MODEL, show_default=True),
        _revision_option(),
        _device_option(),
        *options.source_options(),
        *options.recipe_options(recipe),
        Option(
            ["--use_wandb"], is_flag=True, group="Progress", help="The same as --report_to wandb."
        ),
    ]

    def finetune(**values: Any) -> None:
        from finetuning.finetune import Job
        from finetuning.finetune import finetune as run

        if values.pop("use_wandb"):
            values["report_to"] = "wandb"
        task = get_task(task_name)
        fixed = {name: values.pop(name) for name in ("output_dir", "resume", "overwrite")}
        job = Job(
            task=task,
            model_path=values["model_path"],
            revision=values["revision"],
            source=options.make_source(task, values),
            recipe=Recipe(**{entry.name: values[entry.name] for entry in fields(Recipe)}),
            device=values["device"],
            settings=values,
            **fixed,
        )
        report = run(job)
        if report:
            click.echo(report.table())
            click.echo(f"Adapter, scores and model card are in {job.output_dir}")

    return Command(
        task_name,
        params=parameters,
        callback=finetune,
        help=f"Fine-tune a vision-language model on {task_name} by 4-bit LoRA, then score it.",
    )


def evaluate_command() -> click.Command:
    """The command that scores a model on a task's split."""
    output_dir = Option(
        ["--output_dir"],
        type=click.Path(path_type=Path),
        help="Folder for predictions.jsonl and metrics.json [default: evaluation/SPLIT in an "
        "adapter's folder, else runs/evaluation/MODEL/TASK/SPLIT].",
    )
    return Command(
        "eval",
        params=[
            Option(["--task"], required=True, help=f"One of {', '.join(task_names())}."),
            output_dir,
            *_loading_options(),
            *options.source_options(),
            *_example_options(),
            *_generation_options(),
        ],
        callback=_evaluate,
        help="Score a model or an adapter on a task by the task's official metric.",
    )


def _loading_options() -> list[click.Parameter]:
    quantizations, dtypes = click.Choice(get_args(Quantization)), click.Choice(get_args(Dtype))
    return [
        _model_option(required=True),
        Option(["--base_model"], group="Model", help="Base of an adapter, where it has moved."),
        _revision_option(),
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
        _device_option(),
    ]


def _example_options() -> list[click.Parameter]:
    return [
        Option(["--split"], group="Data", help="Split to score [default: the task's]."),
        _count("--max_eval_samples", "Data", "Score a seeded subset of this size [default: all]."),
        Option(["--seed"], group="Data", default=0, show_default=True, help="Of that subset."),
        _count("--num_workers", "Data", "Processes that read images.", default=0, minimum=0),
    ]


def _generation_options() -> list[click.Parameter]:
    group = "Generation"
    return [
        _count("--batch_size", group, "Examples at once; no influence on the answers.", default=8),
        _count("--num_beams", group, "Beams; 1 is greedy [default: the task's]."),
        _count("--max_new_tokens", group, "Longest answer [default: the task's]."),
        Option(
            ["--prompt_template"],
            group=group,
            help="Prompt with {question} in it [default: the run's, else the task's].",
        ),
        _count(
            "--max_length",
            group,
            "Text budget of the prompt [default: the run's, else the task's].",
            minimum=8,
        ),
        Option(["--truncate"], group=group, is_flag=True, help="Cut prompts over it."),
    ]


def _count(
    name: str, group: str, help: str, default: int | None = None, minimum: int = 1
) -> Option:
    return Option(
        [name],
        group=group,
        type=click.IntRange(min=minimum),
        default=default,
        show_default=default is not None,
        help=help,
    )


def _evaluate(**values: Any) -> None:
    from models.checkpoint import resolve
    from models.loading import check_device, load_family, load_model
    from models.quantization import check_available
    from tasks.evaluation import write_report

    task = get_task(values["task"])
    check_template(values["prompt_template"])
    source = options.make_source(task, values)
    checkpoint = resolve(values["model_path"], values["base_model"], values["revision"])
    run = run_folder.read_run(checkpoint.adapter) if checkpoint.adapter else {}
    settings = run.get("settings", {})
    quantization = values["quantization"] or settings.get("quantization", "none")
    check_available(quantization)
    dataset = _eval_data(task, source, values)
    output_dir = values["output_dir"] or _eval_folder(
        values["model_path"], checkpoint.adapter, run, dataset
    )
    run_folder.check_writable(output_dir)
    check_device(values["device"])

    from finetuning.scoring import make_predictor, score_model

    family = load_family(checkpoint)
    same_task = settings if run.get("task") == task.name else {}
    prompter = make_prompter(
        task,
        family,
        values["prompt_template"] or same_task.get("prompt_template"),
        values["max_length"] or same_task.get("max_length"),
        values["truncate"] or same_task.get("truncate", False),
    )
    check_texts(dataset, prompter, with_answers=False)
    loaded = load_model(
        checkpoint,
        quantization=quantization,
        dtype=values["dtype"],
        device=values["device"],
        family=family,
    )
    predictor = make_predictor(
        loaded.model,
        task,
        prompter,
        batch_size=values["batch_size"],
        num_beams=values["num_beams"],
        max_new_tokens=values["max_new_tokens"],
        num_workers=values["num_workers"],
    )
    report = score_model(predictor, task, dataset)
    write_report(report, output_dir)
    click.echo(report.table())
    click.echo(f"Predictions and metrics are in {output_dir}")


def _eval_data(task: Task, source: Source, values: Mapping[str, Any]) -> Dataset:
    splits = task.eval_splits + task.hidden_splits
    dataset, note = resolve_split(task, values["split"], source, splits)
    if note:
        click.echo(note, err=True)
    dataset = dataset.subset(values["max_eval_samples"], values["seed"])
    check_dataset(dataset)
    return dataset


def _eval_folder(
    model_path: str, adapter: Path | None, run: Mapping[str, Any], dataset: Dataset
) -> Path:
    """Beside the adapter where it is of this task, so that a run keeps what was measured of it."""
    task_name = dataset.task.name
    if adapter is not None and run.get("task", task_name) == task_name:
        return adapter / "evaluation" / dataset.split
    model = Path(model_path).name or "model"
    return Path("runs") / "evaluation" / model / task_name / dataset.split
