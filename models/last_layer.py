"""The last decoder layer, whose feed-forward runs at those positions alone that are read after it.

Behind that layer each position goes its own way, to the output layer or nowhere. So the positions
that no answer is read from need none of its feed-forward, and the results stay the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from models.quantization import replaced_forward


@contextmanager
def narrowed(model: Any, positions: torch.Tensor | None = None) -> Iterator[None]:
    """Run the last feed-forward at some positions alone inside the block; elsewhere it gives zero.

    A decoder of another build runs as it is, and so does a layer that is computed again in the
    backward pass, as that is behind the block.

    Args:
        model: has a decoder; also under an adapter.
        positions: (n,) int64, of all `B * L` in row-major order; by default the last of each row.
    """
    layer = _last_layer(model)
    feed_forward = getattr(layer, "mlp", None)
    if feed_forward is None or layer.gradient_checkpointing:
        yield
        return
    wide = feed_forward.forward

    def narrow(hidden: torch.Tensor) -> Any:  # (B, L, hidden)
        rows = hidden.flatten(0, 1)
        num_rows, length = hidden.shape[:2]
        last = torch.arange(num_rows, device=hidden.device) * length + length - 1
        chosen = last if positions is None else positions
        computed = wide(rows.index_select(0, chosen)[None])
        if not isinstance(computed, torch.Tensor):  # with the choices of a mixture of experts
            return wide(hidden)
        result = computed.new_zeros(rows.shape).index_copy_(0, chosen, computed[0])
        return result.view(hidden.shape)

    with replaced_forward(feed_forward, narrow):
        yield


def keep_activations(model: Any) -> None:
    """Keep those of the last layer where the backward pass computes activations again.

    It begins with that layer, so computing it again would save no memory.
    """
    layer = _last_layer(model)
    if layer is not None:
        layer.gradient_checkpointing = False


def _last_layer(model: Any) -> Any:
    """Return None where recomputation is not the layer's own business, in code from elsewhere."""
    layers = getattr(model.get_decoder(), "layers", None)
    last = layers[-1] if layers else None
    return last if isinstance(last, GradientCheckpointingLayer) else None
