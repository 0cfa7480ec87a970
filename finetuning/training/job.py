"""A training as it is asked for, and everything that is checked before it starts."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from common.json_files import read_json
from common.near_paths import did_you_mean
from common.processes import check_launcher
from evaluation.prompt_template import check_template
from evaluation.prompting import Prompter, make_prompter
from finetuning.training.output_folder import check_is_kept
from finetuning.training.recipe import Recipe
from finetuning.training.settings import check_generation
from finetuning.training.tracker_names import check_trackers
from models.base import Family
from models.checkpoint import Checkpoint, adapter_folder, resolve
from models.loading import (
    announce_libraries,
    check_adapter_weights,
    check_device,
    load_family,
)
from models.quantization import check_quantization
from models.settings import FamilyOptions
from tasks.base import Dataset, MissingSplit, Task, TaskSource
from tasks.images import check_dataset
from tasks.overlap import warn_of_shared
from tasks.splits import resolve_split
from tasks.usable import without_bad_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: the model, the tasks, the recipe and the folder.

    Attributes:
        tasks: what the adapter learns, each task with its source; most jobs have one.
        model_path: base model: folder, Hub id or `tiny`.
        revision: of the Hub repository.
        model_type: family to feed it by, in place of that of its config.json.
        family_options: what the user said about it.
        recipe: how to train.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        output_dir: where the run goes.
        resume: go on from the newest complete checkpoint in it.
        overwrite: replace what is in it.
        settings: every option as given, for run.json and `--config`.
        again: returns the words of the command that scores the run on a task's split, for its
            report; none where they are not known.
    """

    tasks: tuple[TaskSource, ...]
    model_path: str
    revision: str | None = None
    model_type: str | None = None
    family_options: FamilyOptions = field(default_factory=FamilyOptions)
    recipe: Recipe
    device: str = "auto"
    output_dir: Path
    resume: bool = False
    overwrite: bool = False
    settings: Mapping[str, Any]
    again: Callable[[Task, str], Sequence[object]] = lambda task, split: ()


def check_model(job: Job) -> tuple[Job, Checkpoint]:
    """Check the settings and the base, as far as that needs neither data nor weights.

    Returns:
        The job, its recipe completed by the adapter that training goes on from; and the base.

    Raises:
        ValueError: something about them is wrong.
    """
    recipe = job.recipe
    if job.overwrite:
        starts = {"model_path": job.model_path, "lora_init_from": recipe.lora_init_from}
        check_is_kept(job.output_dir, starts)
    check_template(recipe.prompt_template)
    for pair in job.tasks:
        most = recipe.max_new_tokens or pair.task.max_new_tokens
        check_generation({"min_new_tokens": recipe.min_new_tokens, "max_new_tokens": most})
    check_trackers(recipe.report_to)
    checkpoint = resolve(
        job.model_path,
        revision=job.revision,
        model_type=job.model_type,
        options=job.family_options,
    )
    check_quantization(recipe.quantization, checkpoint.stored_in, checkpoint.base)
    if checkpoint.adapter is not None:
        raise ValueError(
            f"{job.model_path} is an adapter, and training starts from a full model, such as its "
            f"base {checkpoint.base}; --lora_init_from goes on from an adapter."
        )
    return replace(job, recipe=with_initial_adapter(recipe, checkpoint, job.model_type)), checkpoint


def open_family(job: Job, checkpoint: Checkpoint) -> Family:
    """Return the family of the base if device, optimiser and the layers to adapt are there.

    Raises:
        ValueError: one of them is not.
    """
    check_launcher()
    check_device(job.device)
    if job.device.startswith("cuda:") and job.device != "cuda:0" and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"Training takes the first visible GPU: in place of --device {job.device} set "
            f"CUDA_VISIBLE_DEVICES={job.device[5:]}."
        )
    announce_libraries()
    _check_optim(job.recipe.optim)
    family = load_family(checkpoint)
    _check_lora(job.recipe, family)
    return family


def recipe_prompter(task: Task, family: Family, recipe: Recipe) -> Prompter:
    """Return what asks a task's examples in a training by this recipe."""
    return make_prompter(
        task,
        family,
        recipe.prompt_template,
        recipe.max_length,
        recipe.truncate,
        recipe.system_message,
    )


def load_data(pair: TaskSource, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """Return a task's examples to train on and, where it has them, to score on.

    No image is opened.
    """
    pair = _skipping(pair, recipe)
    task = pair.task
    for split in filter(None, (recipe.train_split, recipe.eval_split)):
        task.check_split(split)
        if split in task.hidden_splits:
            raise _withheld(task, split)
    train_data, note = resolve_split(task, recipe.train_split, pair.source, task.train_splits)
    if note:
        logger.warning("%s: %s", task.name, note)
    train_data = _usable(train_data.subset(recipe.max_train_samples, recipe.seed), recipe)
    if recipe.skip_evaluation and not recipe.evaluates_during_training:
        return train_data, None
    # these two name the training split's place; the other split has its own
    source = replace(pair.source, hub_split=None, hub_config=None)
    try:
        eval_data, note = resolve_split(task, recipe.eval_split, source, task.eval_splits)
    except MissingSplit:
        if recipe.eval_split or recipe.evaluates_during_training:
            raise
        to_do = " Hold out a part by `palitune split TABLE`." if pair.source.tables else ""
        logger.warning(
            "No evaluation split of %s is there: it will not be scored.%s", task.name, to_do
        )
        return train_data, None
    if note:
        logger.warning("%s: %s", task.name, note)
    tables = [pair.source.tables.get(data.split) for data in (train_data, eval_data)]
    places = [table and Path(table).expanduser().resolve() for table in tables]
    if train_data.split == eval_data.split or (places[0] and places[0] == places[1]):
        logger.warning(
            "Warning: %s is scored on examples that it is trained on (%s), which tells nothing of "
            "new ones; hold out a part by `palitune split TABLE`.",
            task.name,
            tables[1] or eval_data.split,
        )
        return train_data, _scored(eval_data, recipe)
    eval_data = _scored(eval_data, recipe)
    if task.reads_tables:
        warn_of_shared(train_data, eval_data)
    return train_data, eval_data


def _scored(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The examples of a split that are scored: all, or a subset by its own seed."""
    return _usable(dataset.subset(recipe.max_eval_samples, recipe.scoring_seed), recipe)


def _skipping(pair: TaskSource, recipe: Recipe) -> TaskSource:
    """The task, whose missing images are left to `_usable` where bad ones are skipped."""
    source = replace(pair.source, skips_images=recipe.on_bad_image == "skip")
    return replace(pair, source=source)


def _usable(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The examples whose images can be read, where others are skipped; all of them else."""
    dataset = without_bad_images(dataset, recipe.on_bad_image, recipe.num_workers)
    if len(dataset) and not any(example.references for example in dataset):
        raise _withheld(dataset.task, dataset.split)
    check_dataset(dataset)
    return dataset


def _withheld(task: Task, split: str) -> ValueError:
    return ValueError(
        f"The answers of {task.name} split '{split}' are withheld: it can be predicted by eval.py, "
        "not trained or scored on."
    )


def load_selection(pair: TaskSource, recipe: Recipe, eval_data: Dataset | None) -> Dataset | None:
    """Return the examples to score during training, of the task's own split if it has one."""
    task = pair.task
    if not recipe.evaluates_during_training or task.selection_split is None:
        return eval_data
    source = replace(_skipping(pair, recipe).source, hub_split=None, hub_config=None)
    try:
        selection_data, _ = resolve_split(task, task.selection_split, source, ())
    except MissingSplit as error:
        raise MissingSplit(
            f"{error} The best checkpoint is chosen on it, never on what is scored at the end; "
            "give it, or do not score during training (--eval_steps, --eval_epochs; in a YAML file "
            "eval_strategy)."
        ) from error
    return _scored(selection_data, recipe)


def with_initial_adapter(
    recipe: Recipe, checkpoint: Checkpoint, model_type: str | None = None
) -> Recipe:
    """Return the recipe with rank, alpha, layers and kind of the adapter that it goes on from.

    Raises:
        ValueError: it is none, or of another base.
    """
    if recipe.lora_init_from is None:
        return recipe
    folder = adapter_folder(recipe.lora_init_from)
    config = {} if folder is None else read_json(folder / "adapter_config.json")
    if folder is None or config.get("peft_type") != "LORA":
        raise ValueError(
            f"--lora_init_from takes the folder of a LoRA adapter, and {recipe.lora_init_from} is "
            f"none{did_you_mean(recipe.lora_init_from)}"
        )
    try:
        resolve(
            str(folder),
            base_model=checkpoint.base,
            revision=checkpoint.revision,
            model_type=model_type,
            options=checkpoint.options,
        )
        check_adapter_weights(folder)
    except ValueError as error:
        raise ValueError(f"--lora_init_from cannot go on from {folder}: {error}") from error
    layers = config.get("target_modules") or ""  # a regex where the adapter was trained here
    return replace(
        recipe,
        lora_init_from=str(folder),
        lora_target_modules=layers if isinstance(layers, str) else ",".join(sorted(layers)),
        lora_rank=config["r"],
        lora_alpha=config["lora_alpha"],
        lora_dropout=config.get("lora_dropout", 0.0),
        use_dora=config.get("use_dora", False),
        use_rslora=config.get("use_rslora", False),
    )


def _check_optim(optim: str) -> None:
    """Raise ValueError where transformers has no such optimiser, or its package is missing."""
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.training_args import OptimizerNames

    names = [kind.value for kind in OptimizerNames]
    if optim not in names:
        raise ValueError(f"optim must be one of {', '.join(names)}, got {optim}.")
    arguments = TrainingArguments(
        output_dir=gettempdir(), optim=optim, use_cpu=True, report_to="none"
    )
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments, torch.nn.Linear(1, 1))
    except (ImportError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"optim {optim} cannot be used here ({reason}); take adamw_torch, or another of "
            f"{', '.join(names)}."
        ) from error


def _check_lora(recipe: Recipe, family: Family) -> None:
    """Raise ValueError where the model does not have the layers that are to be adapted."""
    from finetuning.training.lora import target_modules
    from models.adapter_loading import check_adapter

    if recipe.lora_init_from is None:
        target_modules(family.empty_model, family, recipe.lora_target_modules, recipe.lora_vision)
    else:
        check_adapter(family.empty_model, Path(recipe.lora_init_from))
