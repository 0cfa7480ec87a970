"""The cost of a training step: memory by part, and the kernel that attends.

Micro-batches of one and of two examples are run and measured, operation by operation. Each further
example takes as much as the second did, so that the memory of any batch size follows from the two.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from common.system_faults import is_out_of_memory
from finetuning.training.gradients import check_gradients, run_step
from finetuning.training.memory import StepMemory, available_bytes, optimizer_ratio
from finetuning.training.number_watch import trained
from finetuning.training.recipe import Recipe
from models.encoding import Encoded
from models.loading import LoadedModel, choose_dtype
from models.quantization import parameter_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

_LOG_PROBABILITY = 4  # bytes: fp32, as the loss keeps them


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most memory that a training takes at once, by part, in bytes.

    Attributes:
        weights: of the frozen base.
        adapter: its weights, the optimiser's states, and gradients that wait for others.
        activations: what the backward pass needs, the logits aside.
        logits: those of the answers.
        workspace: what the backward pass takes beside: new gradients, layers computed again.
    """

    weights: int
    adapter: int
    activations: int
    logits: int
    workspace: int

    @property
    def step(self) -> int:
        """Return what a step takes beside what is there all the time."""
        return self.activations + self.logits + self.workspace

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return self.weights + self.adapter + self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of a micro-batch, by its size.

    Attributes:
        weights, adapter, states: bytes of the frozen base, of the adapter, of the optimiser.
        one, two: a micro-batch of one example, and of two; the first again where two do not fit.
        logits: bytes of one example's answer.
        room: bytes that a step may take, by what the device has left.
        num_tokens: of the example.
    """

    weights: int
    adapter: int
    states: int
    one: StepMemory
    two: StepMemory
    logits: int
    room: int
    num_tokens: int

    def peak(self, size: int, accumulation: int) -> Peak:
        """Predict the peak of a training with micro-batches of `size` examples."""
        held = self._extrapolated(self.one.held, self.two.held, size)
        # moment by moment: the one that has the most is another with more examples
        ones, twos = self.one.moments, self.two.moments
        if len(ones) != len(twos):  # a kernel was chosen by the size
            ones, twos = [self.one.peak], [self.two.peak]
        most = max(self._extrapolated(*pair, size) for pair in zip(ones, twos, strict=True))
        most = max(most, held, 2 * self.adapter)  # the optimiser's own step has gradients too
        return Peak(
            weights=self.weights,
            adapter=self.adapter * (2 if accumulation > 1 else 1) + self.states,
            activations=max(held - size * self.logits, 0),
            logits=min(size * self.logits, held),
            workspace=most - held,
        )

    def _extrapolated(self, one: int, two: int, size: int) -> int:
        """What `size` examples take, by what one and two do; as much each where two are unknown."""
        return size * one if self.two is self.one else one + (size - 1) * (two - one)


def measure_step(
    model: "PreTrainedModel",
    loaded: LoadedModel,
    example: Encoded,
    recipe: Recipe,
    arguments: "TrainingArguments",
    *,
    with_two: bool,
) -> StepCost:
    """Run a step of one example, and one of two; no weight changes.

    Args:
        model: with its adapter.
        loaded: the base, whose family makes batches.
        example: as long as any.
        recipe: how to train.
        arguments: the library's, of the same recipe.
        with_two: whether more than one example is to be planned for.

    Raises:
        RuntimeError: an adapted layer gets no gradient; or one example is too much for the memory.
        ValueError: the loss is no number, or a layer does not reach the answer.
    """
    dtype = choose_dtype(recipe.dtype, model.device.type)

    def run(size: int) -> StepMemory:
        memory = StepMemory(model.device)
        batch = loaded.family.collate([example] * size)
        measure = check_gradients if size == 1 else run_step
        autocast = torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)
        with autocast, torch.random.fork_rng():
            measure(model, batch, recipe.loss_reduction, memory)
        model.zero_grad()
        return memory

    one = two = run(1)
    if with_two:
        try:
            two = run(2)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    adapter = sum(p.nbytes for p in trained(model).values())
    states = round(adapter * optimizer_ratio(arguments, model.device))
    return StepCost(
        weights=parameter_bytes(model) - adapter,
        adapter=adapter,
        states=states,
        one=one,
        two=two,
        logits=sum(example.is_target)
        * model.get_output_embeddings().weight.shape[0]
        * _LOG_PROBABILITY,
        room=available_bytes(model.device) - states,
        num_tokens=len(example.input_ids),
    )
