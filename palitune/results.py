"""Commands carried out with their header before and their result after."""

from pathlib import Path
from typing import TYPE_CHECKING

from common import processes
from palitune.closing import after_evaluation, after_merge, after_training
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
    folders = [
        evaluation_folder(job.output_dir, run, report.task.name, report.split) for report in reports
    ]
    bases = [_show(report) for report in reports]
    for report, folder in zip(reports, folders, strict=True):
        say(f"Every answer of {report.task.name} is in {folder / PAGE}")
    if processes.rank() == 0:
        written = "Adapter, scores and model card" if reports else "Adapter and model card"
        say(f"{written} are in {job.output_dir}")
        first, base = next(zip(folders, bases, strict=True), (None, None))
        say(after_training(job, reports, first, base))


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
    base = _show(result.report)
    if table := baselines_table(result.report):
        say(table)
    say(f"Predictions and metrics are in {folder}; every answer is in {folder / PAGE}")
    closing = after_evaluation(result.report, folder, base)
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


def _show(report: "Report") -> Path | None:
    """Print a report, beside the base's score where that is known.

    Returns:
        The folder of the base's scores; None where they are not known.
    """
    from evaluation.known_base import find_base
    from tasks.score_table import answer_table, score_table

    say(score_table(report))
    base = find_base(report)
    if base is not None:
        say(f"The base's {report.task.metric} was {base.value:.4g} ({base.folder}).")
    say(f"Some of the answers:\n{answer_table(report)}")
    return None if base is None else base.folder
