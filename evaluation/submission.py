"""The file of a leaderboard, which an evaluation writes beside its own."""

from pathlib import Path

from evaluation.request import EvaluationRequest
from tasks.base import Dataset
from tasks.report import Report
from tasks.result_files import write_results


def submitted_files(request: EvaluationRequest, dataset: Dataset) -> list[str]:
    """Return the name of the leaderboard's file; nothing where none is written."""
    is_submitted = request.submission or dataset.split in request.task.hidden_splits
    return [request.task.results_name(dataset)] if is_submitted else []


def write_submission(
    report: Report, dataset: Dataset, folder: Path, request: EvaluationRequest
) -> str | None:
    """Write the leaderboard's file, unless the answers are a part of the split; say which.

    Args:
        report: the answers.
        dataset: the whole split.
        folder: where the file goes.
        request: says whether one is wanted.
    """
    for name in submitted_files(request, dataset):
        ids = [example.example_id for example in report.examples]
        if len(ids) < len(dataset):
            return (
                f"No {name}: the leaderboard takes the whole split, and {len(ids)} of its "
                f"{len(dataset)} examples were answered."
            )
        answers = dict(zip(ids, report.predictions, strict=True))
        write_results(folder / name, report.task, dataset, answers)
        return f"For the leaderboard: {folder / name}"
    return None
