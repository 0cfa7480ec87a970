"""Cross-entropy on the answer positions only, without ever building the other logits.

PaliGemma's vocabulary has 257,216 entries: at batch 4 and 448 px the logits of every position take
about 10 GiB with their copies, those of the answers about 60 MiB.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from finetuning.training.settings import LossReduction
from models.decoder_layers import narrowed
from models.encoding import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answer_logits(
    model: "PreTrainedModel", inputs: Mapping[str, Tensor], is_target: Tensor
) -> Tensor:
    """Compute the logits at the wanted positions alone.

    The selection happens on the way into the output layer, inside the model's own forward pass:
    so its soft-capping applies (Gemma 2), and wrappers (PEFT, DDP, FSDP) see a plain call. The last
    layer's feed-forward runs at these positions alone, too.

    Args:
        model: any model with `get_output_embeddings()`.
        inputs: what its forward pass takes, without labels.
        is_target: (B, L) bool, True at the `n` positions whose output is computed.

    Returns:
        (n, vocabulary), in row-major order of `is_target`.
    """
    unwrapped = getattr(model, "module", model)  # DDP
    positions = is_target.flatten().nonzero().squeeze(1)  # a GPU is waited for here
    head = unwrapped.get_output_embeddings()
    handle = head.register_forward_pre_hook(
        lambda _, args: (
            args[0].reshape(is_target.numel(), -1).index_select(0, positions),
            *args[1:],
        )
    )
    try:
        with narrowed(unwrapped, positions):
            logits: Tensor = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits


def answer_loss(
    model: "PreTrainedModel",
    batch: Mapping[str, Tensor],
    num_items: Tensor | int,
    reduction: LossReduction,
) -> Tensor:
    """Compute the cross-entropy of the answers, summed and divided by `num_items`.

    Args:
        model: as for `answer_logits`.
        batch: the collated batch, `labels` (B, L) among it: -100 where there is no loss.
        num_items: what `count_items` gave for all batches of one optimiser step.
        reduction: `example` takes the mean over an example's answer tokens first, as the
            published transfers do (big_vision, train loop of PaliGemma); `token` weights each
            token alike, so long answers count for more.

    Returns:
        Scalar; the losses of the micro-batches of one optimiser step add up to its loss.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    # position i predicts token i + 1
    labels = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)
    is_target = labels != IGNORE_INDEX
    logits = answer_logits(model, inputs, is_target)
    losses = F.cross_entropy(logits.float(), labels[is_target], reduction="none")
    if reduction == "example":
        num_tokens = is_target.sum(dim=1, keepdim=True)
        losses = losses / num_tokens.expand_as(labels)[is_target]
    return losses.sum() / num_items


def count_items(batches: Sequence[Mapping[str, Tensor]], reduction: LossReduction) -> int:
    """Return the divisor of one optimiser step's loss: its examples, or its answer tokens."""
    if reduction == "example":
        return sum(len(batch["labels"]) for batch in batches)
    return sum(int((batch["labels"][:, 1:] != IGNORE_INDEX).sum()) for batch in batches)
