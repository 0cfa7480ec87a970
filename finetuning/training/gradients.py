"""Which parts of a model get a gradient, and what is computed for it."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from finetuning.training.loss import answer_loss, count_items
from finetuning.training.number_watch import reason_of_no_number
from finetuning.training.settings import LossReduction
from models.decoder_layers import keep_activations
from models.quantization import quantized_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finetuning.training.memory import StepMemory


def set_recomputation(model: "PreTrainedModel", recompute: bool, num_kept: int = 1) -> None:
    """Let the backward pass compute the activations of layers again, or keep them all.

    The libraries also have every input require a gradient, which only the reentrant kind of
    recomputation needs. It would give a frozen vision tower a backward pass, and a second forward
    pass, for nothing. PEFT does so too where the base was trained with recomputation before.

    Args:
        model: with its adapter.
        recompute: whether to compute any again.
        num_kept: layers of the decoder, the last ones, whose activations are kept all the same. It
            begins with the last: to compute that again would save no memory.
    """
    model.disable_input_require_grads()  # PEFT's, which the next line would lose
    if recompute:
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
        keep_activations(model, num_kept)
    else:
        model.activation_checkpointing_disable()
    model.disable_input_require_grads()


def check_gradients(
    model: "PreTrainedModel",
    batch: Mapping[str, torch.Tensor],
    reduction: LossReduction,
    memory: "StepMemory | None" = None,
) -> None:
    """Verify that each adapted layer still gets a gradient after an evaluation.

    Args:
        model: with a new adapter, or one to go on from.
        batch: on any device.
        reduction: of the loss.
        memory: measures the step on the way.

    Raises:
        RuntimeError: a quantised one gets none, so training would move the last layers only.
        ValueError: nothing of those that get none reaches the output.
    """
    dead, num_modules = modules_without_gradient(model, batch, reduction, memory)
    if not dead:
        return
    found = f"{len(dead)} of {num_modules} LoRA modules get no gradient, {dead[0]} first"
    # the kernels' fault: it cuts off what lies below a layer in 4 bits, itself among them
    quantized = tuple(name.removesuffix("base_layer") for name in quantized_layers(model))
    if any(name.startswith(quantized) for name in dead):
        raise RuntimeError(
            f"{found}; this bitsandbytes does not train on this device: pass --quantization none."
        )
    raise ValueError(
        f"{found}: nothing of them reaches the answer; leave --lora_vision out, or name the "
        "layers to adapt by --lora_target_modules."
    )


def modules_without_gradient(
    model: "PreTrainedModel",
    batch: Mapping[str, torch.Tensor],
    reduction: LossReduction,
    memory: "StepMemory | None" = None,
) -> tuple[list[str], int]:
    """Find LoRA modules of a new adapter without a gradient after an evaluation, of how many.

    The arguments are those of `check_gradients`.

    Raises:
        ValueError: the loss is NaN or infinite.
    """
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    num_items = count_items([batch], reduction)
    with torch.random.fork_rng():
        with torch.no_grad():
            answer_loss(model.eval(), batch, num_items, reduction)
        loss = run_step(model.train(), batch, reduction, memory)
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss of the first example is {float(loss.detach())} before any step: "
                f"{reason_of_no_number(model)}."
            )
    # B starts at zero and so A has no gradient yet; each module's B has one
    updates = [(name, p) for name, p in model.named_parameters() if "lora_B" in name]
    dead = [name for name, p in updates if p.grad is None or not p.grad.abs().max() > 0]
    model.zero_grad()
    return dead, len(updates)


def run_step(
    model: "PreTrainedModel",
    batch: Mapping[str, torch.Tensor],
    reduction: LossReduction,
    memory: "StepMemory | None" = None,
) -> torch.Tensor:
    """Run a forward and a backward pass of one batch, and return its loss; gradients stay.

    The arguments are those of `check_gradients`.
    """
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with memory or nullcontext():
        loss = answer_loss(model, batch, count_items([batch], reduction), reduction)
        if memory is not None:
            memory.after_forward()
        loss.backward()
    return loss
