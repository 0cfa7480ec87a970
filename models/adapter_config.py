"""The adapter_config.json of an adapter: each field that decides something is what it must be.

Format: PEFT 0.21.2, https://github.com/huggingface/peft, `peft/tuners/lora/config.py`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from common.json_files import read_json

CONFIG_FILE = "adapter_config.json"
# these leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take something out of it
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")

T = TypeVar("T")
Rank = Annotated[int, Meta(gt=0)]
# none is larger in earnest, and far larger ones leave no numbers; NaN is refused too
Alpha = Annotated[float, Meta(ge=-1e6, le=1e6)]


class AdapterConfig(msgspec.Struct, frozen=True):
    """The fields of a LoRA's adapter_config.json that say what its tensors mean."""

    r: Rank
    lora_alpha: Alpha
    base_model_name_or_path: str | None = None
    revision: str | None = None
    task_type: str | None = None
    use_rslora: bool = False
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None
    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    lora_dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    use_dora: bool = False
    lora_bias: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str = True


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of the adapter_config.json in a folder; that of a LoRA is verified.

    Raises:
        ValueError: there is none, it is no JSON, or a field of a LoRA's is not what it must be.
    """
    path = folder / CONFIG_FILE
    content = read_json(path)
    if content.get("peft_type") == "LORA":
        typed_config(path, content)
    return content


def typed_config(path: Path, content: Mapping[str, Any]) -> AdapterConfig:
    """Return the fields of a LoRA's config.

    Args:
        path: the file, for messages.
        content: its object.

    Raises:
        ValueError: a field is not what it must be; names it.
    """
    config = converted(path, content, AdapterConfig)
    for name, pattern in _patterns(config):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{path} has in {name} what is no regular expression, {pattern!r} ({error}); "
                "save it anew with PEFT."
            ) from error
    return config


def converted(path: Path, content: Mapping[str, Any], kind: type[T]) -> T:
    """Return the fields of a type from a config's object; raise ValueError as `typed_config`."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{path} is not the configuration of a LoRA adapter: {error}; save it anew with PEFT."
        ) from error


def _patterns(config: AdapterConfig) -> Iterator[tuple[str, str]]:
    """Yield the name of each field that PEFT reads as regular expressions, and each of these."""
    for name in ("target_modules", "exclude_modules"):  # lists of these are plain names
        if isinstance(value := getattr(config, name), str):
            yield name, value
    for name in ("rank_pattern", "alpha_pattern", "modules_to_save", "layers_pattern"):
        value = getattr(config, name) or ()
        for pattern in [value] if isinstance(value, str) else value:
            yield name, pattern


def changing_setting(config: Mapping[str, Any]) -> str | None:
    """Name the setting by which an adapter changes weights of its base in place, if one does.

    Args:
        config: the content of adapter_config.json.
    """
    start = config.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        return f"init_lora_weights {start}"
    bias = config.get("bias", "none")
    return None if bias == "none" else f"bias {bias}"
