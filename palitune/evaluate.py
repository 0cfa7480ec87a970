"""The command that scores a model or a file of predictions."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import click

from evaluation.request import EvaluationRequest, MetricsRequest
from finetuning.training.recipe import Recipe
from models.settings import GENERATION
from palitune import options, table_options
from palitune.command import Option
from palitune.evaluation_options import (
    example_options,
    file_options,
    generation_options,
    loading_options,
    metric_options,
)
from palitune.idle import refuse_idle
from palitune.requests import make_model_request, make_prompt_request
from palitune.results import evaluate_and_show
from palitune.resuming import saying_how_to_resume
from palitune.runs import check_decoding, resolve_model_options
from palitune.sources import make_source
from palitune.typed import typed_command, typed_options
from palitune.user_modules import TaskCommand, TaskOption, metric_option, module_options
from tasks.own_metric import with_metric
from tasks.registry import built_in_names
from tasks.selection import read_ids

# what decides neither the examples nor their answers; a page names others in place of these
_NOT_REPEATED = {
    *("output_dir", "resume", "submission", "baselines", "num_viz_samples", "images_budget"),
    *("ids", "max_eval_samples"),
}


def evaluate_command() -> click.Command:
    """Return the command that scores a model, or a file of predictions, on a task's split."""
    output_dir = Option(
        ["--output_dir"],
        type=click.Path(path_type=Path),
        help="Write predictions.jsonl and metrics.json to this folder [default: evaluation/SPLIT "
        "in an adapter's folder, evaluation/TASK/SPLIT in that of one trained on several tasks, "
        "else runs/evaluation/MODEL/TASK/SPLIT; of a table csv_NAME in SPLIT's place; of a file of "
        "predictions FILE_scores beside it].",
    )

    def evaluate(**values: Any) -> None:
        again = typed_command("python eval.py", _NOT_REPEATED)
        with saying_how_to_resume():
            evaluate_and_show(make_request(values, typed_options(), again))

    return TaskCommand(
        "eval",
        params=[
            TaskOption(
                ["--task"],
                help="Score on this task, one of {tasks} [default: the run's; csv_qa with --csv].",
            ),
            *module_options(),
            output_dir,
            Option(["--resume"], is_flag=True, help="Resume the interrupted evaluation there."),
            *file_options(),
            *loading_options(),
            *options.source_options(),
            *table_options.table_options("csv"),
            metric_option("run's, else the task's own"),
            *table_options.own_file_options(*built_in_names()),
            *example_options(),
            *metric_options(),
            *generation_options(),
        ],
        callback=evaluate,
        help="Score a model, an adapter or a file of predictions by the task's official metric.",
    )


def make_request(
    values: Mapping[str, Any], given: AbstractSet[str] = frozenset(), command: str | None = None
) -> EvaluationRequest:
    """Return the evaluation that the options of the command ask for.

    Args:
        values: every option of the command.
        given: names of the options that were typed.
        command: what to type for the same answers again.

    Raises:
        ValueError: options contradict each other, a value is out of its range, or data is not
            where it should be.
    """
    task, values = resolve_model_options(values)
    decoding = {name: values[name] for name in GENERATION if values[name] is not None}
    Recipe(images_budget=values["images_budget"])  # checks its range
    name = values["model_path"]
    revision = None if values["base_model"] else values["revision"]
    check_decoding(task, name, revision, decoding)
    model = None if name is None else make_model_request(name, values)
    predictions = values["predictions"]
    if predictions is not None and model is None:
        _refuse_model_options(given)
    elif predictions is None:
        refuse_idle(["allow_partial"], given, "it is for a file of --predictions, not for a model")
    return EvaluationRequest(
        task=with_metric(task, values["metric"]),
        source=make_source(task, values),
        model=model,
        predictions=predictions,
        allow_partial=values["allow_partial"],
        submission=values["submission"],
        split=values["split"],
        table=None if values["csv"] is None else Path(values["csv"]),
        max_eval_samples=values["max_eval_samples"],
        ids=None if values["ids"] is None else read_ids(values["ids"]),
        seed=values["seed"],
        num_workers=values["num_workers"],
        on_bad_image=values["on_bad_image"],
        batch_size=values["batch_size"],
        decoding=decoding,
        prompt=make_prompt_request(values),
        metrics=MetricsRequest(
            lenient=values["lenient"],
            text_metrics=values["text_metrics"],
            clip_model=values["clip_model"],
            num_viz_samples=values["num_viz_samples"],
            images_budget=values["images_budget"],
            baselines=values["baselines"],
        ),
        device=values["device"],
        output_dir=values["output_dir"],
        resume=values["resume"],
        command=command,
    )


def _refuse_model_options(given: AbstractSet[str]) -> None:
    """Refuse options of a model and of its answers where a file is scored."""
    names = [
        str(parameter.name)
        for parameter in evaluate_command().params
        if isinstance(parameter, Option)
        and (parameter.group in ("Model", "Generation") or parameter.name == "resume")
        and parameter.name != "device"  # CLIP may run there
    ]
    refuse_idle(names, given, "--predictions scores a file, no model")
