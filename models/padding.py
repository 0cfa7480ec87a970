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
    import numpy as np
    import torch

    longest = max(len(encoded.input_ids) for encoded in batch)
    gaps = [longest - len(encoded.input_ids) for encoded in batch]
    pairs = list(zip(gaps, batch, strict=True))
    # NumPy reads lists several times as fast as torch
    ids = np.array([[padding_id] * gap + e.input_ids for gap, e in pairs], np.int64)
    is_target = np.array([[False] * gap + e.is_target for gap, e in pairs], bool)
    is_read = np.arange(ids.shape[1]) >= np.array(gaps)[:, None]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(is_read.astype(np.int64)),
        "labels": torch.from_numpy(np.where(is_target, ids, IGNORE_INDEX)),
    }
