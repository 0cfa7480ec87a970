"""The record of a training in run.json, and the check that a resumed one matches it."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from evaluation.own_code import KEY, used_code
from evaluation.provenance import describe_data
from finetuning.training.job import Job
from finetuning.training.recipe import Recipe
from models import run_record
from models.checkpoint import Checkpoint
from models.fingerprint import same_weights
from models.settings import GENERATION, FamilyOptions
from tasks.base import Dataset

logger = logging.getLogger(__name__)

# settings that a resumed run may have otherwise: how long, how often, where to; what is scored
# may be other where the best checkpoint was not chosen by it
_MAY_CHANGE = {
    *("num_epochs", "max_steps", "save_steps", "save_total_limit", "logging_steps", "num_workers"),
    "gradient_checkpointing",  # its gradients are equal to the bit
    "on_bad_image",
    *("eval_split", "eval_steps", "eval_epochs", "eval_batch_size", "max_eval_samples"),
    "eval_seed",
    *("early_stopping_patience", "report_to", "wandb_project"),
    *GENERATION,
    *("skip_evaluation", "num_viz_samples", "clip_model", "images_budget"),
}


def describe(
    job: Job,
    checkpoint: Checkpoint,
    data: Sequence[tuple[Dataset, Dataset | None]],
    selections: Sequence[Dataset | None],
) -> dict[str, Any]:
    """Return what run.json records, versions apart."""
    own_code = used_code([train_data.task for train_data, _ in data], checkpoint.family)
    return {
        "task": ",".join(train_data.task.name for train_data, _ in data),
        "base_model": job.model_path,
        "base_revision": checkpoint.revision,
        "base_fingerprint": checkpoint.fingerprint,
        "seed": job.recipe.seed,
        "num_processes": int(os.environ.get("WORLD_SIZE", "1")),
        **describe_all(data),
        "chosen_by": chosen_by(selections) if job.recipe.evaluates_during_training else {},
        **({KEY: own_code} if own_code else {}),
        "settings": {**job.settings, **asdict(job.recipe)},
    }


def chosen_by(selections: Sequence[Dataset | None]) -> dict[str, Any]:
    """Return what the best checkpoint is chosen by, for each task that is scored on the way."""
    return {
        dataset.task.name: {
            "metric": dataset.task.metric,
            **describe_data(dataset.split, dataset),
        }
        for dataset in selections
        if dataset is not None
    }


def describe_all(data: Sequence[tuple[Dataset, Dataset | None]]) -> dict[str, Any]:
    """Return the `train_data` and `eval_data` of a run.json; several tasks each have a key."""
    names = [train_data.task.name for train_data, _ in data]
    train_data, eval_data = (
        [None if dataset is None else describe_data(dataset.split, dataset) for dataset in datasets]
        for datasets in zip(*data, strict=True)
    )
    is_joint = len(names) > 1
    return {
        "train_data": dict(zip(names, train_data, strict=True)) if is_joint else train_data[0],
        "eval_data": dict(zip(names, eval_data, strict=True)) if is_joint else eval_data[0],
    }


def check_same_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on with other data, another base or another adapter shape.

    So it is with another metric or other examples to choose the best checkpoint by: their scores
    cannot be compared with those of before.

    Raises:
        ValueError: names what differs.
    """
    before = run_record.read_run(folder)
    if not before:
        raise ValueError(f"{folder} has no run.json, so what to resume is not known; start anew.")
    keys: tuple[str, ...] = ("task", "base_model", "base_revision", "train_data", "num_processes")
    if same_weights(before.get("base_fingerprint"), run["base_fingerprint"]) is False:
        raise ValueError(
            f"The run in {folder} had a base with other weights than {run['base_model']} has now: "
            "resume with the same, or start anew in another folder."
        )
    if before.get(KEY) != run.get(KEY):
        logger.warning(
            "Warning: the run in %s was begun with other bytes of your own task, metric or family.",
            folder,
        )
    if before.get("chosen_by") and run["chosen_by"]:  # neither where nothing is scored on the way
        keys += ("chosen_by",)
    for key in keys:
        if before.get(key) != run[key]:
            raise ValueError(
                f"The run in {folder} had {key} {before.get(key)}, this one has {run[key]}: "
                "resume with the same, or start anew in another folder."
            )
    # a run of an earlier version lacks the settings that came later, and had their defaults
    defaults = {e.name: e.default for e in (*fields(Recipe), *fields(FamilyOptions))}
    for key, default in {**defaults, "model_type": None}.items():
        was, now = (entry["settings"].get(key, default) for entry in (before, run))
        if key not in _MAY_CHANGE and was != now:
            raise ValueError(
                f"The run in {folder} had --{key} {was}, not {now}: resume with the same, or "
                "start anew in another folder."
            )
