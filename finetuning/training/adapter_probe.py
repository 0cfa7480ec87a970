"""The probe of an adapter that was given: whether the model answers with it, and as it should."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from finetuning.training.probe_tools import (
    Conversation,
    encode_to_train,
    logits_of,
    relative_gap,
)
from finetuning.training.probes import TOLERANCE, Finding
from models.adapter_files import AdapterFiles, read_adapter_files
from models.adapter_loading import put_adapter
from models.adapter_targets import by_pattern
from models.loading import LoadedModel

_PLAIN = (".lora_A.weight", ".lora_B.weight")


def probe_applied(
    loaded: LoadedModel, conversations: Sequence[Conversation], folder: Path
) -> Finding:
    """Check that an adapter moves the logits, to those of base + update computed by hand.

    Args:
        loaded: the base; whole tensors that lie beside the adapter stay in it.
        conversations: the first is asked.
        folder: of the adapter.

    Raises:
        ValueError: the adapter does not fit, or is not whole.
    """
    encoded = [encode_to_train(loaded, conversations[0])]
    before = logits_of(loaded, encoded)
    adapted = put_adapter(loaded.model, folder)
    try:
        given = logits_of(replace(loaded, model=adapted.eval()), encoded)
    finally:
        adapted.unload().eval()
    moved = relative_gap(given, before)
    if not moved > 0:
        return Finding(figure=1.0, limit=0, reason="The adapter changes nothing.")
    shown = f"The adapter moves logits by {moved:.1e} of their spread"
    files = read_adapter_files(folder, str(loaded.model.config.model_type))
    if not all(name.endswith(_PLAIN) for name in files.tensors):
        reason = f"{shown}; it holds more than plain LoRA, which is not computed by hand."
        return Finding(figure=0, limit=0, reason=reason)
    with _updates_by_hand(loaded.model, files):
        gap = relative_gap(given, logits_of(loaded, encoded))
    return Finding(
        figure=gap,
        limit=TOLERANCE,
        reason=f"{shown}, to within {gap:.1e} of base + update computed by hand.",
    )


@contextmanager
def _updates_by_hand(model: Any, files: AdapterFiles) -> Iterator[None]:
    """Add scale * B A x to the output of each layer that the adapter is of, without PEFT."""
    hooks = []
    try:
        for name, trained_as in files.trained_as.items():
            a, b = (files.tensors[name + part].to(model.device).float() for part in _PLAIN)
            scale = _scale(files.config, trained_as, len(a))

            def add(
                _: Any,
                inputs: tuple[Tensor, ...],
                output: Tensor,
                a: Tensor = a,
                b: Tensor = b,
                scale: float = scale,
            ) -> Tensor:
                return output + scale * (inputs[0].float() @ a.T @ b.T).to(output.dtype)

            hooks.append(model.get_submodule(name).register_forward_hook(add))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scale(config: Mapping[str, Any], trained_as: str, rank: int) -> float:
    """Return what B A is multiplied by: alpha / rank, of rsLoRA alpha / sqrt(rank)."""
    alpha = by_pattern(config.get("alpha_pattern"), trained_as, config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
