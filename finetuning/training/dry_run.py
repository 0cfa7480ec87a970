"""A training rehearsed: its plan, and the time of a few real steps; nothing of it is kept."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from common.terminal_table import align, size_of
from finetuning.training import output_folder
from finetuning.training.checkpoints import newest, read_state
from finetuning.training.job import Job
from finetuning.training.prepare import prepare

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finetuning.training.trainer import AnswerTrainer

logger = logging.getLogger(__name__)

NUM_STEPS = 6
_NUM_WARM_UP = 1  # the first step makes the optimiser's states


def rehearse(job: Job) -> str:
    """Return what a training would take, as tables; its folder is only looked at.

    Raises:
        ValueError: the training could not start, whatever its folder.
        RuntimeError: the system failed.
    """
    from finetuning.training.faults import explained

    _look_at_folder(job)
    prepared = prepare(job)
    quiet = replace(
        job.recipe,
        eval_steps=None,
        eval_epochs=False,
        early_stopping_patience=None,
        report_to="none",
    )
    with TemporaryDirectory() as folder, explained(job.output_dir):
        trainer = prepared.make_trainer(quiet, Path(folder))
        num_steps = trainer.planned_steps()
        seconds = _time_steps(trainer, min(NUM_STEPS, num_steps))
    last = newest(job.output_dir) if job.resume else None
    num_done = 0 if last is None else min(read_state(last)["global_step"], num_steps)
    times = _time(trainer, num_steps, num_done, seconds)
    tables = (_weights(trainer.model), _memory(trainer), times)
    return "\n\n".join(align(list(rows)) for rows in tables)


def _look_at_folder(job: Job) -> None:
    """Say what the training needs where it would not start in its folder as it is now."""
    try:
        output_folder.check_folder(job.output_dir, resume=job.resume, overwrite=job.overwrite)
    except ValueError as error:
        if job.resume:  # there is nothing to go on with, or it is to be replaced too
            raise
        logger.info("The training itself would not start yet: %s", error)


def _time_steps(trainer: "AnswerTrainer", num_steps: int) -> float:
    """Train a few steps and return the seconds of the median one."""
    from transformers import TrainerCallback
    from transformers.trainer_utils import SaveStrategy

    from finetuning.training.operations import now

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.times.append(now(trainer.args.device))

        on_train_end = on_step_begin

    clock = Clock()
    trainer.args.save_strategy = SaveStrategy.NO
    trainer.args.max_steps = num_steps
    trainer.add_callback(clock)
    trainer.train()
    steps = [after - before for before, after in pairwise(clock.times)]
    return median(steps[_NUM_WARM_UP:] or steps)


def _weights(model: "PreTrainedModel") -> Iterator[tuple[str, ...]]:
    """Yield the weights by part and precision, those that are trained last."""
    sizes: defaultdict[tuple[bool, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for name, weight in model.named_parameters():
        state = getattr(weight, "quant_state", None)
        held = str(weight.dtype).removeprefix("torch.") if state is None else state.quant_type
        part = ".".join(name.removeprefix("base_model.model.").split(".")[:2])
        row = sizes[weight.requires_grad, "adapter" if weight.requires_grad else part, held]
        row[0] += weight.numel() if state is None else state.shape.numel()
        row[1] += weight.nbytes
    yield "weights", "held in", "number", "memory"
    for (_, part, held), (number, num_bytes) in sorted(sizes.items()):
        yield part, held, f"{number:,}", size_of(num_bytes)


def _memory(trainer: "AnswerTrainer") -> Iterator[tuple[str, str]]:
    """Yield the parts of the predicted peak, and what was measured."""
    peak, measured = trainer.plan.peak, trainer.costs()["measured_peak_memory"]
    yield "memory", "at the peak"
    yield "weights of the base", size_of(peak.weights)
    yield "adapter and optimiser", size_of(peak.adapter)
    yield "activations", size_of(peak.activations)
    yield "logits of the answers", size_of(peak.logits)
    yield "workspace", size_of(peak.workspace)
    yield "predicted", size_of(peak.total)
    yield "measured in these steps", size_of(measured)
    yield "left for a step's activations, logits and workspace", size_of(trainer.plan.cost.room)


def _time(
    trainer: "AnswerTrainer", num_steps: int, num_done: int, seconds: float
) -> Iterator[tuple[str, str]]:
    """Yield the number of steps and what they take, scoring aside."""
    from finetuning.training.operations import matrix_speed

    plan = trainer.plan
    flops = _flops(trainer) * plan.batch_size * plan.accumulation
    whole = timedelta(seconds=round(seconds * (num_steps - num_done)))
    num_examples = plan.batch_size * plan.accumulation * trainer.args.world_size
    yield "steps", f"{num_steps:,}"
    if num_done:
        yield "steps that are done", f"{num_done:,}"
    yield "a step", plan.cut()
    yield "tokens of an example, at most", f"{plan.cost.num_tokens:,}"
    yield "time of a step", f"{seconds:.3f} s"
    yield "examples a second", f"{num_examples / seconds:.1f}"
    which = "the steps left" if num_done else "all steps"
    yield f"time of {which}, without scoring", str(whole)
    yield "operations of a step", f"{flops / 1e9:,.3g} GFLOP"
    if trainer.args.device.type == "cuda":
        share = flops / seconds / matrix_speed(trainer.args.device, trainer.model.dtype)
        yield "share of a large matrix product's speed", f"{share:.0%}"
    yield "attention kernel", plan.cost.one.attention or "the model's own"


def _flops(trainer: "AnswerTrainer") -> int:
    """Count the operations of one of the longest examples."""
    from finetuning.training.examples import longest
    from finetuning.training.operations import step_flops

    batch = trainer.data_collator([longest(trainer.train_dataset)])
    del batch["example_ids"]
    inputs = {name: tensor.to(trainer.args.device) for name, tensor in batch.items()}
    with trainer.compute_loss_context_manager():
        return step_flops(trainer.model, inputs, trainer.loss_reduction)
