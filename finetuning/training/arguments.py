"""A recipe in the words of transformers."""

import logging
from math import prod
from pathlib import Path

import torch
from transformers import TrainingArguments

from finetuning.training import checkpoints
from finetuning.training.recipe import Recipe
from finetuning.training.tracker_names import PROJECT, tracker_names
from models.loading import LoadedModel, choose_dtype

logger = logging.getLogger(__name__)


def make_arguments(
    loaded: LoadedModel, recipe: Recipe, output_dir: Path, metric: str | None
) -> TrainingArguments:
    """Return the library's arguments; the sizes of batches are for the plan to say.

    Args:
        loaded: the base.
        recipe: how to train.
        output_dir: checkpoints go into a folder of it.
        metric: what the best checkpoint is chosen by; None where nothing is scored on the way.
    """
    dtype = choose_dtype(recipe.dtype, loaded.model.device.type)
    every = "steps" if recipe.save_steps or recipe.eval_steps else "epoch"
    arguments = TrainingArguments(
        output_dir=str(output_dir / checkpoints.CHECKPOINTS),
        num_train_epochs=recipe.num_epochs,
        max_steps=recipe.max_steps or -1,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        # below 1 it is a share
        warmup_steps=recipe.warmup_ratio if recipe.warmup_steps is None else recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=_fused(recipe.optim, loaded.model.device.type),
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # each LoRA matrix takes part in each step
        eval_strategy=every if metric else "no",
        eval_steps=recipe.eval_steps,
        save_strategy=every,
        save_steps=recipe.save_steps or recipe.eval_steps or 500,
        save_total_limit=recipe.save_total_limit,
        metric_for_best_model=f"eval_{metric}" if metric else None,
        greater_is_better=True if metric else None,
        restore_callback_states_from_checkpoint=True,
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,  # its default hides a loss of NaN
        disable_tqdm=True,  # a callback of ours draws the bar
        report_to=tracker_names(recipe.report_to),
        project=recipe.wandb_project or PROJECT,  # of trackio
        run_name=output_dir.name,
        seed=recipe.seed,
        use_cpu=loaded.model.device.type == "cpu",
    )
    # set here, for the library refuses it where scores and checkpoints are not of the same steps;
    # `_determine_best_metric` saves the best ones all the same
    arguments.load_best_model_at_end = metric is not None
    if arguments.n_gpu > 1:
        logger.warning(
            "%d GPUs are visible and one is used; for all of them start the same command with "
            "`torchrun --nproc_per_node %d`.",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1  # DataParallel, the library's choice here, breaks 4-bit layers
    return arguments


def warn_of_short(arguments: TrainingArguments, num_steps: int, num_examples: int) -> None:
    """Warn where the training is too short for what it was asked for.

    Args:
        arguments: the library's, the sizes of batches among them.
        num_steps: optimiser steps of the training.
        num_examples: of an epoch.
    """
    num_warm = arguments.get_warmup_steps(num_steps)
    if num_steps <= num_warm:
        logger.warning(
            "Warning: the training has %d steps, and its learning rate rises over %d: it comes to "
            "%g at most, not to %g; lower --warmup_steps or --warmup_ratio, or train for longer.",
            *(num_steps, num_warm),
            *(arguments.learning_rate * (num_steps - 1) / num_warm, arguments.learning_rate),
        )
    sizes = (
        arguments.per_device_train_batch_size,
        arguments.gradient_accumulation_steps,
        arguments.world_size,
    )
    per_batch = arguments.per_device_train_batch_size * arguments.world_size
    if arguments.world_size > 1 and (num_repeated := -num_examples % per_batch):
        logger.warning(
            "Warning: the last step of each epoch repeats examples, %d in all, so that the %d "
            "processes have batches alike.",
            *(num_repeated, arguments.world_size),
        )
    if num_examples < prod(sizes):
        logger.warning(
            "Warning: a step takes all %d examples, as there are fewer than the %d that it was to "
            "have (batch_size %d, gradient_accumulation_steps %d, processes %d).",
            *(num_examples, prod(sizes), *sizes),
        )


def _fused(optim: str, device_type: str) -> str:
    """Return AdamW's name for the kernel of a GPU that updates all weights at once."""
    return "adamw_torch_fused" if (optim, device_type) == ("adamw_torch", "cuda") else optim
