"""Batches of examples of different length."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.encoding import IGNORE_INDEX, Encoded

if TYPE_CHECKING:
    import torch


def pad_on_the_left(batch: Sequence[Encoded], padding_id: int) -> dict[str, "torch.Tensor"]:
    """Pad `B` examples on the left to `L` tokens, as generation needs it.

    Args:
        batch: the examples.
        padding_id: the token of positions that are not attended to.

    Returns:
        input_ids, attention_mask, labels (-100 wherever no token is learned): (B, L) int64.
    """
    import torch

    shape = (len(batch), max(len(encoded.input_ids) for encoded in batch))
    input_ids = torch.full(shape, padding_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORE_INDEX)
    for row, encoded in enumerate(batch):
        start = shape[1] - len(encoded.input_ids)
        ids = torch.tensor(encoded.input_ids)
        input_ids[row, start:] = ids
        attention_mask[row, start:] = 1
        labels[row, start:] = ids.where(torch.tensor(encoded.is_target), IGNORE_INDEX)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
