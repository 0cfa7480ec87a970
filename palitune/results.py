"""Commands carried out with their header before and their result after."""

from pathlib import Path
from typing import TYPE_CHECKING

from common import processes
from models.checkpoint import adapter_folder
from palitune.closing import Shown, after_evaluation, after_merge, after_training
from palitune.command import say
from palitune.headers import announce_evaluation, announce_merge, announce_training

if TYPE_CHECKING:
    from evaluation.request import EvaluationRequest
    from finetuning.training.job import Job
    from merging.request import MergeRequest
    from tasks.report import Report


def train_and_show(job: "Job") -> None:
    """Train, then print the scores, some answers, and how to go on."""
    announce_training(job)
    from evaluation.report_page import PAGE
    from finetuning.training.run import finetune
    from models.run_record import evaluation_folder

    reports = finetune(job)
    run = {"task": ",".join(pair.task.name for pair in job.tasks)}
    scored = [
        _show(report, evaluation_folder(job.output_dir, run, report.task.name, report.split))
        for report in reports
    ]
    for one in scored:
        say(f"Every answer of {one.report.task.name} is in {one.folders[-1] / PAGE}")
    if processes.rank() == 0:
        written = "Adapter, scores and model card" if reports else "Adapter and model card"
        say(f"{written} are in {job.output_dir}")
        say(after_training(job, scored))


def evaluate_and_show(request: "EvaluationRequest") -> None:
    """Score, then print the scores, some answers, where they are, and how to go on."""
    announce_evaluation(request)
    from evaluation.baselines import baselines_table
    from evaluation.report_page import PAGE
    from evaluation.run import evaluate

    result = evaluate(request)
    if result is None:  # this process only helped to answer
        return
    folder = result.output_dir
    model = request.model
    left_out = adapter_folder(model.path) if model is not None and model.without_adapter else None
    shown = _show(result.report, folder, left_out)
    if table := baselines_table(result.report):
        say(table)
    say(f"Predictions and metrics are in {folder}; every answer is in {folder / PAGE}")
    closing = after_evaluation(shown)
    say("\n".join(filter(None, [result.submission, closing])))


def merge_and_show(request: "MergeRequest", data_root: str | None) -> None:
    """Merge, which prints what is found, then print how to go on.

    Args:
        request: the merge.
        data_root: the option, as it was given.
    """
    announce_merge(request)
    from merging.run import merge

    merge(request, say)
    if closing := after_merge(request, data_root):
        say(closing)


def _show(report: "Report", folder: Path, left_out: Path | None = None) -> Shown:
    """Print a report, beside the score of its base, or of its base's adapter, where that is known.

    Args:
        report: the scores.
        folder: where they are.
        left_out: the adapter whose base was scored.
    """
    from evaluation.known_base import find_adapted, find_base
    from tasks.score_table import answer_table, breakdown_table, score_table

    say(score_table(report))
    base = find_base(report) if left_out is None else None
    adapted = None if left_out is None else find_adapted(report, left_out)
    if base is not None:
        say(f"The base's {report.task.metric} was {base.value:.4g} ({base.where}).")
    if adapted is not None:
        say(f"With the adapter {report.task.metric} is {adapted.value:.4g} ({adapted.where}).")
    if breakdown := breakdown_table(report):
        say(breakdown)
    say(f"Some of the answers:\n{answer_table(report)}")
    beside = [known.folder for known in (base, adapted) if known is not None]
    return Shown(report, (*beside, folder) if adapted is None else (folder, *beside))
