"""The command that merges adapters."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from finetuning.training.run_state import check_came_to_its_end
from merging.request import MergeRequest, TrialRequest
from merging.settings import parse_tasks, parse_weights
from palitune.command import Option, count_option
from palitune.merge_method import method_options
from palitune.push import prepare_push, push_options
from palitune.results import merge_and_show
from palitune.resuming import saying_how_to_resume
from palitune.runs import recorded_metric
from palitune.sources import data_roots, folder_source
from palitune.user_modules import (
    OwnCodeCommand,
    TaskOption,
    load_modules_of,
    metric_option,
    module_options,
)
from tasks.base import TaskSource
from tasks.own_metric import with_metric


def merge_command() -> click.Command:
    """Return the command behind merge_vlm.py."""
    return OwnCodeCommand(
        "merge",
        params=[
            *_adapter_options(),
            *module_options(),
            *method_options(),
            *_export_options(),
            *_evaluation_options(),
            *push_options(),
        ],
        callback=_merge,
        help="Merge LoRA adapters of one base into one, on their updates, and report what is left "
        "of each.",
    )


def _adapter_options() -> list[click.Parameter]:
    group = "Adapters"
    folder = click.Path(path_type=Path)
    return [
        Option(
            ["--base_model"],
            group=group,
            required=True,
            help="Name the base model: a folder, a Hub id, or `tiny`.",
        ),
        Option(
            ["--revision"],
            group=group,
            help="Take this revision of the base model's Hub repository.",
        ),
        Option(
            ["--model_a"],
            group=group,
            required=True,
            type=folder,
            help="Merge this adapter first: a folder or a Hub id.",
        ),
        Option(
            ["--model_b"],
            group=group,
            type=folder,
            help="Merge this adapter second; without it --model_a is exported alone.",
        ),
        Option(
            ["--adapter"],
            group=group,
            type=folder,
            multiple=True,
            help="Merge this adapter too; may be repeated.",
        ),
        Option(
            ["--allow_base_mismatch"],
            group=group,
            is_flag=True,
            help="Merge adapters of differently named bases; their shapes must fit.",
        ),
    ]


def _export_options() -> list[click.Parameter]:
    group = "Output"
    return [
        Option(
            ["--output", "output"],
            group=group,
            type=click.Path(path_type=Path),
            help="Write to this new folder; needed unless --dry_run.",
        ),
        Option(
            ["--export"],
            group=group,
            type=click.Choice(["auto", "adapter", "full", "both"]),
            default="auto",
            show_default=True,
            help="Write this; auto writes an adapter where that is exact, and a full model for "
            "ties, dare, magnitude_prune and a single adapter; both puts the adapter in "
            "OUTPUT/adapter.",
        ),
        Option(
            ["--rank"],
            group=group,
            default="full",
            show_default=True,
            help="Give the written adapter this rank: full, a number, or an energy share such as "
            "0.99.",
        ),
        Option(
            ["--save_dtype"],
            group=group,
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Save weights in this precision; auto takes the base's, and float32 for an "
            "adapter.",
        ),
        Option(
            ["--onto"],
            group=group,
            type=click.Choice(["auto", "original", "nf4"]),
            default="auto",
            show_default=True,
            help="Add to the base's weights as they are, or rounded as 4-bit training saw them; "
            "auto takes a single adapter's own, and the original for several.",
        ),
        Option(
            ["--dry_run"], group=group, is_flag=True, help="Print the diagnostics, write nothing."
        ),
    ]


def _evaluation_options() -> list[click.Parameter]:
    group = "Evaluation"
    return [
        TaskOption(
            ["--evaluate"],
            group=group,
            metavar="TASK,TASK",
            help="Score base, each adapter and the merge on these tasks ({tasks}).",
        ),
        metric_option("adapters', else the task's own"),
        Option(
            ["--sweep"],
            group=group,
            metavar="GRID",
            help='Choose on half of the examples, confirm on the rest: "mode=linear,ties '
            'density=0.2,0.5 lambda=0.5,1"; what has no axis there is as its own option says.',
        ),
        Option(
            ["--data_root"],
            group=group,
            help="Read the tasks' data in this folder, or TASK=FOLDER for each task with commas "
            "between, or `sample` [default: the Hub copies].",
        ),
        Option(
            ["--resume"], group=group, is_flag=True, help="Resume the scores of a stopped merge."
        ),
        count_option(
            "--max_eval_samples", group, "Score this many examples per task.", default=256
        ),
        count_option("--batch_size", group, "Answer this many examples at once.", default=8),
        Option(
            ["--device"],
            group=group,
            default="auto",
            show_default=True,
            help="Score on this device: auto, cpu, cuda or cuda:N.",
        ),
    ]


def _merge(**values: Any) -> None:
    request = make_request(values)
    push = prepare_push(values)
    with saying_how_to_resume() if values["evaluate"] else nullcontext():
        merge_and_show(request, values["data_root"])
    push(values["output"])


def make_request(values: Mapping[str, Any]) -> MergeRequest:
    """Return the merge that the options of the command ask for.

    Raises:
        ValueError: a value is wrong, an option would change nothing, or data is not where it
            should be.
    """
    if values["output"] is None and not values["dry_run"]:
        raise ValueError("--output names the new folder; pass it, or --dry_run for figures alone.")
    adapters = [values["model_a"], *filter(None, [values["model_b"]]), *values["adapter"]]
    load_modules_of(adapters, values)
    tasks = parse_tasks(values["evaluate"])
    for name in ("data_root", "resume", "metric"):
        if values[name] and not tasks:
            raise ValueError(
                f"--{name} is for scores, and --evaluate names no task: it would change nothing; "
                "leave it out."
            )
    for path in (values["base_model"], *adapters):
        check_came_to_its_end(str(path))
    roots = data_roots(values["data_root"], tasks)  # TASK=FOLDER of a single task too
    return MergeRequest(
        base_model=values["base_model"],
        revision=values["revision"],
        adapters=adapters,
        allow_base_mismatch=values["allow_base_mismatch"],
        mode=values["mode"],
        weights=parse_weights(values["weights"]),
        lam=values["lam"],
        density=values["density"],
        t=values["t"],
        sweep=values["sweep"],
        seed=values["seed"],
        missing=values["missing"],
        trim_scope=values["trim_scope"],
        normalize=values["normalize"],
        output=None if values["dry_run"] else values["output"],
        resume=values["resume"],
        export=values["export"],
        rank=values["rank"],
        save_dtype=values["save_dtype"],
        onto=values["onto"],
        trial=TrialRequest(
            tasks=[
                TaskSource(
                    with_metric(task, values["metric"] or recorded_metric(adapters, task)),
                    folder_source(task, roots[task.name]),
                )
                for task in tasks
            ],
            max_eval_samples=values["max_eval_samples"],
            batch_size=values["batch_size"],
            device=values["device"],
        ),
    )
