"""Layers of a decoder: what of the last one is computed, and whose activations are kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from models.quantization import replaced_forward


@contextmanager
def narrowed(model: Any, positions: torch.Tensor | None = None) -> Iterator[None]:
    """Run the last feed-forward at some positions alone inside the block; elsewhere it gives zero.

    Behind it each position goes its own way, to the output layer or nowhere. So those that no
    answer is read from need none of it, and the results stay the same.

    A decoder of another build runs as it is, and so does a layer that is computed again in the
    backward pass, as that is behind the block.

    Args:
        model: has a decoder; also under an adapter.
        positions: (n,) int64, of all `B * L` in row-major order; by default the last of each row.
    """
    layers = _layers(model)
    feed_forward = getattr(layers[-1], "mlp", None) if layers else None
    if feed_forward is None or layers[-1].gradient_checkpointing:
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


def num_layers(model: Any) -> int:
    """Count the layers whose activations can be kept or computed again, each by itself."""
    return len(_layers(model))


def keep_activations(model: Any, number: int) -> None:
    """Keep those of so many layers where the backward pass computes activations again.

    They are the last ones: it needs them first, and has freed them when it computes others again.
    """
    for layer in _layers(model)[-number:]:
        layer.gradient_checkpointing = False


def _layers(model: Any) -> Sequence[Any]:
    """Return none where recomputation is not the layers' own business, in code from elsewhere."""
    layers = getattr(model.get_decoder(), "layers", None) or []
    return layers if all(isinstance(la, GradientCheckpointingLayer) for la in layers) else []
