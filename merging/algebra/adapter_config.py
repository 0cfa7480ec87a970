"""The adapter_config.json of an adapter: whether it is of a kind that can be merged."""

from pathlib import Path

import msgspec

from common.json_files import read_json
from common.near_paths import did_you_mean
from models.adapter_config import CONFIG_FILE, PLAIN_STARTS, AdapterConfig, converted, typed_config


class _Kind(msgspec.Struct):
    """Decides whether the rest is read at all; where a field beside the first is set, it is not."""

    peft_type: str
    fan_in_fan_out: object = None
    target_parameters: object = None
    layer_replication: object = None
    trainable_token_indices: object = None
    alora_invocation_tokens: object = None
    arrow_config: object = None
    kasa_config: object = None
    monteclora_config: object = None
    use_bdlora: object = None
    use_qalora: object = None


def read_config_file(folder: Path) -> AdapterConfig:
    """Read the adapter_config.json of a folder.

    Raises:
        ValueError: there is none, or it is of a kind that cannot be merged.
    """
    if not folder.is_dir():
        why = did_you_mean(folder, "it is not a folder; give one that PEFT wrote")
        raise ValueError(f"No adapter at {folder}{why}")
    path = folder / CONFIG_FILE
    if not path.is_file():
        what = "a full model" if (folder / "config.json").is_file() else "no adapter"
        raise ValueError(
            f"{folder} holds {what}: it has no {CONFIG_FILE}; give the folder of a LoRA adapter."
        )
    content = read_json(path)
    _check_kind(folder, converted(path, content, _Kind))
    config = typed_config(path, content)
    if config.init_lora_weights not in PLAIN_STARTS:
        raise ValueError(
            f"Adapter {folder} was started by {config.init_lora_weights}, which changes the base "
            "model's own weights and is not supported yet; convert it to an ordinary LoRA by "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )
    return config


def _check_kind(folder: Path, kind: _Kind) -> None:
    if kind.peft_type != "LORA":
        raise ValueError(
            f"Adapter {folder} is of type {kind.peft_type}, which is not supported yet; only LORA "
            "adapters can be merged."
        )
    for name, value in msgspec.structs.asdict(kind).items():
        if name != "peft_type" and value:
            raise ValueError(
                f"Adapter {folder} was trained with {name}, which is not supported yet; merge "
                "adapters without it."
            )
