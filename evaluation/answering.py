"""A split answered by a model, such that a kill on the way loses little."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import processes
from evaluation.answer_log import IMAGES, AnswerLog
from evaluation.image_states import files_hash
from evaluation.provenance import describe_data
from tasks.base import Dataset
from tasks.report import Report
from tasks.report_files import write_predictions

if TYPE_CHECKING:
    from evaluation.prediction import Predictor


def answer_and_log(
    predictor: "Predictor",
    dataset: Dataset,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    resume: bool,
    allow_other: bool = False,
) -> Report:
    """Answer a split and write the predictions; what is answered outlives a kill on the way.

    The answers so far stay until `remove_answers`, so that a kill in scoring loses none either.

    Args:
        predictor: answers.
        dataset: the split.
        folder: of the evaluation.
        identity: all of model and prompt that decides the answers.
        resume: go on with the answers that an earlier evaluation left.
        allow_other: replace them where they were given otherwise, instead of refusing them.
    """
    from evaluation.prediction import answer_with

    whole = log_identity(predictor, dataset, identity)
    log = AnswerLog(folder, whole, resume=resume, allow_other=allow_other)
    report = answer_with(predictor, dataset.task, dataset, log)
    if processes.rank() == 0:
        write_predictions(report, folder)
    log.close()
    return report


def log_identity(
    predictor: "Predictor", dataset: Dataset, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that decides answers: model and prompt, the data, image files, the batches."""
    return {
        "task": dataset.task.name,
        **describe_data(dataset.split, dataset),
        IMAGES: files_hash(dataset),
        **identity,
        "batch_size": predictor.batch_size,
    }
