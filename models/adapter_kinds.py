"""Kinds of adapters, told by their config: whether the base stays as it is under them."""

from collections.abc import Mapping
from typing import Any

# these leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take something out of it
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")


def change_of_base(config: Mapping[str, Any]) -> str | None:
    """Name the setting by which an adapter changes weights of its base in place, if one does.

    Such an adapter cannot be taken off again: `bias` trains the base's own, and some starts of
    a LoRA take something out of the weights (PEFT 0.21.2, `LoraConfig`).

    Args:
        config: the content of adapter_config.json.
    """
    start = config.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        return f"init_lora_weights {start}"
    bias = config.get("bias", "none")
    return None if bias == "none" else f"bias {bias}"
