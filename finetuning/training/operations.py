"""Floating-point operations of a training step, counted by PyTorch as they run."""

from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from finetuning.training.compiled import as_written
from finetuning.training.loss import answer_loss
from finetuning.training.settings import LossReduction

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# PyTorch has no formula for the one kernel that a CPU has
_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, query, key, value, *_, **__: sdpa_backward_flop_count(grad, query, key, value)
    ),
}


def step_flops(
    model: "PreTrainedModel", batch: Mapping[str, torch.Tensor], reduction: LossReduction
) -> int:
    """Count a forward and a backward pass; a multiply-add is two, and what is recomputed counts.

    Args:
        model: with its adapter; its gradients are dropped.
        batch: on the model's device.
        reduction: of the loss.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_ON_CPU)
    with as_written(), torch.random.fork_rng(), counter:
        answer_loss(model.train(), batch, 1, reduction).backward()
    model.zero_grad()
    return int(counter.get_total_flops())


def now(device: torch.device) -> float:
    """Read the clock, in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations per second of a matrix product of 8,192, the most that is reached."""
    left, right = (torch.randn(8192, 8192, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(13):
        start = now(device)
        left @ right
        times.append(now(device) - start)
    return float(2 * 8192**3 / median(times[3:]))  # the first ones load the kernel
