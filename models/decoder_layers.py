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

    Args:
        model: has a decoder; also under an adapter.
        positions: (n,) int64, of all `B * L` in row-major order; by default the last of each row.
    """
    feed_forward = narrowed_part(model)
    if feed_forward is None:
        yield
        return
    wide = feed_forward.forward

    def narrow(hidden: torch.Tensor, *more: Any, **named: Any) -> Any:  # (B, L, hidden)
        if more or named:  # of each position, perhaps
            return wide(hidden, *more, **named)
        rows = hidden.flatten(0, 1)
        length, chosen = hidden.shape[1], positions
        if chosen is None:
            chosen = torch.arange(length - 1, len(rows), length, device=hidden.device)
        computed = wide(rows.index_select(0, chosen)[None])
        if not isinstance(computed, torch.Tensor):  # with the choices of a mixture of experts
            return wide(hidden)
        result = computed.new_zeros(rows.shape).index_copy_(0, chosen, computed[0])
        return result.view(hidden.shape)

    with replaced_forward(feed_forward, narrow):
        yield


def narrowed_part(model: Any) -> Any:
    """Return the last feed-forward where it can be narrowed.

    It cannot in a decoder of another build; where something behind it mixes positions, as a
    convolution does; where the loss takes each position's choice of experts; and where the
    backward pass computes it again, as that is behind the block.
    """
    layers = _all_layers(model)
    last: Any = layers[-1] if layers else None
    feed_forward = getattr(last, "mlp", None)
    if feed_forward is None:
        return None
    has_own_switch = isinstance(last, GradientCheckpointingLayer)
    is_again = last.gradient_checkpointing if has_own_switch else torch.is_grad_enabled()
    tells_choices = getattr(model.config.get_text_config(), "output_router_logits", False)
    parts = [part for part in last.children() if part is not feed_forward]
    mixers = [part for part in parts if any(weight.dim() > 1 for weight in part.parameters())]
    only_attention = len(mixers) <= 1  # norms scale each position by a vector
    return feed_forward if only_attention and not (is_again or tells_choices) else None


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
    layers = _all_layers(model)
    return layers if all(isinstance(la, GradientCheckpointingLayer) for la in layers) else []


def _all_layers(model: Any) -> Sequence[Any]:
    return getattr(model.get_decoder(), "layers", None) or []
