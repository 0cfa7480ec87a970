"""The command that scores a model or a file of predictions."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from evaluation.request import EvaluationRequest, MetricsRequest
from finetuning.training.recipe import Recipe
from models.loading import Dtype
from models.quantization import Quantization
from models.settings import GENERATION
from palitune import options
from palitune.command import Command, Option, count_option, saying_how_to_resume
from palitune.requests import make_model_request, make_prompt_request
from palitune.results import show_result
from palitune.runs import resolve_model_options
from palitune.sources import make_source
from tasks.registry import task_names


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
        from evaluation.run import evaluate as run

        with saying_how_to_resume():
            result = run(make_request(values, _given_options()))
        show_result(result)

    return Command(
        "eval",
        params=[
            Option(
                ["--task"],
                help=f"Score on this task, one of {', '.join(task_names())} "
                "[default: the run's; csv_qa with --csv].",
            ),
            output_dir,
            Option(["--resume"], is_flag=True, help="Resume the interrupted evaluation there."),
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


def make_request(
    values: Mapping[str, Any], given: AbstractSet[str] = frozenset()
) -> EvaluationRequest:
    """Return the evaluation that the options of the command ask for.

    Args:
        values: every option of the command.
        given: names of the options that were typed.

    Raises:
        ValueError: options contradict each other, a value is out of its range, or data is not
            where it should be.
    """
    task, values = resolve_model_options(values)
    decoding = {name: values[name] for name in GENERATION if values[name] is not None}
    Recipe(**decoding)  # checks their ranges
    name = values["model_path"]
    model = None if name is None else make_model_request(name, values)
    predictions = values["predictions"]
    if predictions is not None and model is None:
        _refuse_model_options(given)
    return EvaluationRequest(
        task=task,
        source=make_source(task, values),
        model=model,
        predictions=predictions,
        allow_partial=values["allow_partial"],
        submission=values["submission"],
        split=values["split"],
        table=None if values["csv"] is None else Path(values["csv"]),
        max_eval_samples=values["max_eval_samples"],
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
        ),
        device=values["device"],
        output_dir=values["output_dir"],
        resume=values["resume"],
    )


def _given_options() -> set[str]:
    """Return the names of the options that were typed."""
    context = click.get_current_context()
    typed = ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is typed}


def _refuse_model_options(given: AbstractSet[str]) -> None:
    """Refuse options of a model and of its answers where a file is scored."""
    idle = [
        str(parameter.opts[0])
        for parameter in evaluate_command().params
        if isinstance(parameter, Option)
        and parameter.group in ("Model", "Generation")
        and parameter.name in given - {"device"}  # CLIP may run there
    ]
    if idle:
        raise ValueError(
            f"{' and '.join(idle)} would change nothing: --predictions scores a file, no model."
        )


def _file_options() -> list[click.Parameter]:
    group = "Predictions"
    return [
        Option(
            ["--predictions"],
            group=group,
            type=click.Path(path_type=Path),
            help="Score this file, as it is written, in place of a model: results in the "
            "leaderboard's format, or a predictions.jsonl. No images are needed.",
        ),
        Option(
            ["--allow_partial"],
            group=group,
            is_flag=True,
            help="Score the examples that the file of --predictions and the split share.",
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
            help="Add common unofficial variants of the metric, under separate names.",
        ),
        Option(
            ["--text_metrics"],
            group=group,
            is_flag=True,
            help="Add exact match, sacreBLEU, ROUGE and the COCO family, and token statistics.",
        ),
        *options.recipe_options(Recipe(), ("clip_model",)),
        count_option(
            "--num_viz_samples",
            group,
            "Draw this many of the scored answers as images.",
            default=0,
            minimum=0,
        ),
    ]


def _loading_options() -> list[click.Parameter]:
    quantizations, dtypes = click.Choice(get_args(Quantization)), click.Choice(get_args(Dtype))
    return [
        options.model_option(),
        Option(
            ["--base_model"],
            group="Model",
            help="Take this base of the adapter, where the recorded one has moved.",
        ),
        Option(
            ["--allow_base_mismatch"],
            group="Model",
            is_flag=True,
            help="Warn where the base has other weights than the adapter was trained on.",
        ),
        Option(
            ["--lora_path"], group="Model", help="Put this adapter on the model of --model_path."
        ),
        Option(
            ["--run"],
            group="Model",
            help="Score the run of this name in --runs_dir, in place of --model_path.",
        ),
        Option(
            ["--runs_dir"],
            group="Model",
            type=click.Path(path_type=Path),
            default=Path("results"),
            show_default=True,
            help="Look for the run of --run in this folder and in its folders.",
        ),
        options.revision_option(),
        *options.family_options(),
        Option(
            ["--quantization"],
            group="Model",
            type=quantizations,
            help="Hold the language model in this precision [default: an adapter's own, else "
            "none].",
        ),
        Option(
            ["--dtype"],
            group="Model",
            type=dtypes,
            default="auto",
            show_default=True,
            help="Compute in this precision; layers that are not quantised are held in it.",
        ),
        options.device_option(),
    ]


def _example_options() -> list[click.Parameter]:
    return [
        Option(["--split"], group="Data", help="Name of the split to score [default: the task's]."),
        count_option(
            "--max_eval_samples", "Data", "Score a seeded subset of this size [default: all]."
        ),
        Option(
            ["--seed"],
            group="Data",
            default=0,
            show_default=True,
            help="Draw the subset of --max_eval_samples, and answers, by this seed.",
        ),
        count_option(
            "--num_workers",
            "Data",
            "Read images in this many processes; auto takes one a free processor, none for few "
            "images.",
            default="auto",
            minimum=0,
        ),
        *options.recipe_options(Recipe(), ("on_bad_image",)),
    ]


def _generation_options() -> list[click.Parameter]:
    group = "Generation"
    return [
        count_option(
            "--batch_size",
            group,
            "Answer this many examples at once; the answers do not depend on it, and auto takes "
            "as many as memory bears.",
            default="auto",
        ),
        *options.recipe_options(None, GENERATION),
        Option(
            ["--prompt_template"],
            group=group,
            help="Use this prompt; {question} stands for the question [default: the run's, else "
            "the task's].",
        ),
        Option(
            ["--system_message"],
            group=group,
            help="Send this system message before the question [default: the run's].",
        ),
        count_option(
            "--max_length",
            group,
            "Allow this many text tokens a prompt [default: the run's, else the task's].",
            minimum=8,
        ),
        Option(
            ["--truncate"],
            group=group,
            is_flag=True,
            help="Cut prompts that are over --max_length.",
        ),
    ]
