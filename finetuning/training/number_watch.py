"""Loss, gradient and weights of a training stay numbers, or it stops and says where."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.finite import not_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerState


class NoNumber(RuntimeError):
    """Loss, gradient or weights became NaN or infinite."""


class NumberWatch:
    """Watches loss, gradient and trained weights of each optimiser step.

    The micro-batches only leave a flag on the device, which is waited for once a step.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.ids: list[Any] = []
        self.weights: list[Tensor] = []

    def add(self, loss: Tensor, ids: Sequence[Any]) -> None:
        """Take the loss of a micro-batch and the ids of its examples."""
        self.losses.append(loss)
        self.ids += ids

    def check(
        self,
        grad_norm: Tensor | float | None,
        model: "PreTrainedModel",
        state: "TrainerState",
        rate: float,
    ) -> None:
        """Verify what was added since the last step, the gradient, and the weights before it.

        Args:
            grad_norm: of all that is trained; None where it may be infinite.
            model: the model with its adapter.
            state: of the trainer.
            rate: the learning rate.

        Raises:
            NoNumber: one is NaN or infinite; names step, rate and examples.
        """
        losses, ids = self.losses, self.ids
        self.losses, self.ids = [], []
        norm = [] if grad_norm is None else [torch.as_tensor(grad_norm, device=losses[0].device)]
        self.weights = self.weights or list(trained(model).values())
        size = torch.nn.utils.get_total_norm(self.weights)
        flags = torch.stack([t.float().reshape(()) for t in (*losses, *norm, size)]).tolist()
        *values, weight = flags
        loss_values = values[: len(losses)]
        bad = [value for value in loss_values if not _is_number(value)]
        if bad:
            raise NoNumber(_sentence(f"The loss became {bad[0]}", model, state, rate, ids))
        if norm and not _is_number(values[-1]):
            what = f"The gradient's norm became {values[-1]}"
            raise NoNumber(_sentence(what, model, state, rate, ids))
        if not _is_number(weight):
            self.check_weights(model, state, rate)

    def check_weights(self, model: "PreTrainedModel", state: "TrainerState", rate: float) -> None:
        """Verify what is trained, before it is saved.

        Raises:
            NoNumber: some of it is NaN or infinite.
        """
        found = not_finite(trained(model))
        if found:
            what = f"The adapter became NaN or infinite in {len(found)} tensors, {found[0]} first,"
            raise NoNumber(_sentence(what, model, state, rate, (), done=0))


def trained(model: "PreTrainedModel") -> dict[str, Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _is_number(value: float) -> bool:
    return abs(value) < float("inf")


def _sentence(
    what: str,
    model: "PreTrainedModel",
    state: "TrainerState",
    rate: float,
    ids: Sequence[Any],
    done: int = 1,
) -> str:
    shown = ", ".join(map(str, ids[:8])) + (" and others" if len(ids) > 8 else "")
    examples = f", examples {shown}" if ids else ""
    where = f"at step {state.global_step + done} (learning rate {rate:g}{examples})"
    return f"{what} {where}: {reason_of_no_number(model)}."


def reason_of_no_number(model: "PreTrainedModel") -> str:
    """Say why numbers were lost, as a part of a sentence: the base holds none, or the rate."""
    base = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    found = not_finite(base)
    if found:
        return f"the base's own weights hold NaN or infinity ({found[0]}); copy them again"
    return "lower --learning_rate, or use --dtype bf16 or fp32"
