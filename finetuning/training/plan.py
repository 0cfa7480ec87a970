"""The plan of a training: how the examples of a step are cut to fit into memory."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from common import processes
from common.system_faults import is_out_of_memory
from common.terminal_table import size_of
from finetuning.training.arguments import make_arguments
from finetuning.training.gradients import set_recomputation
from finetuning.training.lora import add_lora
from finetuning.training.recipe import Recipe
from finetuning.training.step_cost import Peak, StepCost, measure_step
from models.decoder_layers import num_layers
from models.encoding import Encoded
from models.loading import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

logger = logging.getLogger(__name__)

# At this batch size a step without recomputation is as fast for each example as one of any size
# with it (benchmarks/README.md, 448 px).
_LARGE_ENOUGH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cut of an optimiser step's examples, and what it takes.

    Attributes:
        batch_size: examples of a micro-batch.
        accumulation: micro-batches of an optimiser step.
        recompute: whether activations are computed again in the backward pass.
        num_kept: layers whose activations are kept all the same, the last ones.
        cost: what was measured.
    """

    batch_size: int
    accumulation: int
    recompute: bool
    num_kept: int
    cost: StepCost

    @property
    def peak(self) -> Peak:
        """Return the predicted memory."""
        return self.cost.peak(self.batch_size, self.accumulation)

    def cut(self) -> str:
        """Return the cut as text."""
        activations = "recomputed" if self.recompute else "kept"
        if self.recompute and self.num_kept > 1:
            activations = f"of the last {self.num_kept} layers kept, of the others recomputed"
        return f"{self.batch_size} x {self.accumulation} examples, activations {activations}"

    def summary(self) -> str:
        """Return one line for the user."""
        return (
            f"{self.cut()}; {size_of(self.peak.total)} at the peak, of it "
            f"{size_of(self.peak.step)} for the step, which has room for {size_of(self.cost.room)}"
        )

    def smaller(self, recipe: Recipe) -> Recipe | None:
        """Return a recipe that takes less, of what is left open; None where nothing is.

        Args:
            recipe: as the user gave it.
        """
        size, accumulation, recompute = self.batch_size, self.accumulation, self.recompute
        is_least = recompute and self.num_kept == 1
        if recipe.gradient_checkpointing == "auto" and not (is_least or recipe.compile):
            recompute = True
        elif recipe.batch_size == "auto" and size > 1:
            size, accumulation = size // 2, 2 * accumulation
        else:
            return None
        return replace(
            recipe,
            batch_size=size,
            gradient_accumulation_steps=accumulation,
            effective_batch_size=None,
            gradient_checkpointing="on" if recompute else "off",
        )


def make_plan(
    model: "PreTrainedModel",
    loaded: LoadedModel,
    longest: Encoded,
    recipe: Recipe,
    arguments: "TrainingArguments",
) -> Plan:
    """Measure the model's steps and choose what the recipe leaves open; recomputation is set.

    Several processes cut alike: as the one with the least room must.

    Args:
        model: with its adapter.
        loaded: the base, whose family makes batches.
        longest: an example as long as any.
        recipe: how to train.
        arguments: the library's, of the same recipe.

    Raises:
        RuntimeError: an adapted layer gets no gradient; or memory runs out at a batch of one.
        ValueError: the loss is no number, or a layer does not reach the answer.
    """
    sizes = batch_sizes(recipe)
    choice = "off" if recipe.compile else recipe.gradient_checkpointing
    recompute, num_kept, cost = choice == "on", 1, None

    def measure(recompute: bool, num_kept: int = 1) -> StepCost:
        set_recomputation(model, recompute, num_kept)
        return measure_step(model, loaded, longest, recipe, arguments, with_two=sizes[-1] > 1)

    try:
        cost = measure(recompute)
    except (RuntimeError, MemoryError) as error:
        if choice != "auto" or not is_out_of_memory(error):
            raise
    size = min(processes.gather(_largest(cost, sizes)))
    if choice == "auto" and size < min(_LARGE_ENOUGH, sizes[-1]):
        without, cost, recompute = cost, measure(True), True
        size = min(processes.gather(_largest(cost, sizes)))
        if size and min(processes.gather(_largest(without, [size]))):  # that spared nothing
            cost, recompute = measure(False), False
        elif size:
            keep = partial(measure, True)
            num_kept, cost = _keep_more(keep, without, cost, size, num_layers(model) - 1)
    assert cost is not None
    if size == 0:
        size = sizes[0]
        logger.warning("Memory may run out by the plan: take smaller images or --batch_size auto.")
    accumulation = recipe.gradient_accumulation_steps
    if recipe.batch_size == "auto":
        accumulation = (recipe.effective_batch_size or size) // size
    return Plan(
        batch_size=size,
        accumulation=accumulation,
        recompute=recompute,
        num_kept=num_kept,
        cost=cost,
    )


def plan_training(loaded: LoadedModel, longest: Encoded, recipe: Recipe) -> Plan:
    """Plan a training by the base alone, which is left as it was.

    The arguments and errors are those of `make_plan`.
    """
    model = add_lora(loaded.model, loaded.family, recipe)
    try:
        with TemporaryDirectory() as folder:
            arguments = make_arguments(loaded, recipe, Path(folder), None)
            return make_plan(model, loaded, longest, recipe, arguments)
    finally:
        set_recomputation(model, False)
        model.unload().eval()


def batch_sizes(recipe: Recipe) -> list[int]:
    """Return the sizes that a micro-batch may have, rising: the one given, or powers of two."""
    if recipe.batch_size != "auto":
        return [recipe.batch_size]
    whole = recipe.effective_batch_size or 1
    return [2**n for n in range(whole.bit_length()) if whole % 2**n == 0]


def _largest(cost: StepCost | None, sizes: list[int]) -> int:
    """Return the largest size that fits; 0 where none does."""
    if cost is None:
        return 0
    return max((size for size in sizes if cost.peak(size, 1).step <= cost.room), default=0)


def _keep_more(
    measure: Callable[[int], StepCost],
    without: StepCost | None,
    cost: StepCost,
    size: int,
    num_others: int,
) -> tuple[int, StepCost]:
    """Keep the activations of as many layers as fit; return their number, and the cost.

    Each is taken for its share of what all of them take more. Where some layers have no adapter
    others take more than that, so it is measured.

    Args:
        measure: sets and measures a number of layers.
        without: the cost where nothing is computed again; None where that is not known.
        cost: where all layers but the last are.
        size: examples of a micro-batch.
        num_others: all layers but the last; fewer than 1 where they are not known.
    """
    num_more = 0 if without is None else max(num_others, 0)
    if without is not None and (most := without.peak(size, 1).step) > cost.room:
        least = cost.peak(size, 1).step
        num_more = int(num_more * (cost.room - least) / (most - least))
    first = 1 + min(processes.gather(num_more))
    for num in range(first, 1, -1):
        trial = measure(num)
        if all(processes.gather(trial.peak(size, 1).step <= trial.room)):
            return num, trial
    return 1, cost if first == 1 else measure(1)
