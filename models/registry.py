"""Every model family, found by `config.model_type`."""

import logging
from collections.abc import Mapping
from typing import Any

from models.base import Family
from models.blip2 import Blip2
from models.generic import Generic, RemoteGeneric
from models.internvl import InternVL
from models.llava import Llava
from models.llava_next import LlavaNext
from models.llava_onevision import LlavaOnevision
from models.paligemma import PaliGemma
from models.phi3_vision import Phi3Vision
from models.qwen_vl import QwenVL
from models.remote_code import is_native

logger = logging.getLogger(__name__)

# How entries of config.json begin in models that take images.
_OF_PICTURES = ("vision", "visual", "image", "vit_")

FAMILIES: tuple[type[Family], ...] = (
    PaliGemma,
    Llava,
    LlavaNext,
    LlavaOnevision,
    QwenVL,
    InternVL,
    Blip2,
    Phi3Vision,
    Generic,
    RemoteGeneric,
)


def check_native(model_type: str, model_path: str) -> None:
    """Refuse a checkpoint in its authors' own format.

    Raises:
        ValueError: transformers cannot read it; names what it can.
    """
    for family in FAMILIES:
        if model_type in family.foreign_types:
            raise ValueError(
                f"{model_path} is in its authors' own format (model_type {model_type}), which "
                "transformers cannot read; pass its native equivalent, such as "
                f"{family.foreign_types[model_type]}."
            )


def family_of(model_type: str, model_path: str) -> type[Family]:
    """Return the family that serves a checkpoint of this `config.model_type`.

    Raises:
        ValueError: none does; names the types that are served.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    served = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise ValueError(
        f"{model_path} is a model of type '{model_type}'; types that can be used are {served}."
    )


def family_for(config: Mapping[str, Any], model_path: str) -> type[Family]:
    """Return the family of a full model by its config.json: the generic one where none is its.

    Raises:
        ValueError: nothing in its config.json is about images.
    """
    model_type = str(config.get("model_type"))
    if any(model_type in family.model_types for family in FAMILIES):
        return family_of(model_type, model_path)
    code = config.get("auto_map") or {}
    sees = any(key.startswith(_OF_PICTURES) for key in config)  # to ask transformers takes seconds
    if Generic.auto_class in code or (is_native(model_type) if code else sees):
        family: type[Family] = Generic
    elif RemoteGeneric.auto_class in code:
        family = RemoteGeneric
    else:
        return family_of(model_type, model_path)
    logger.info(
        "no family file for models of type '%s': %s goes by its own chat template and processor; "
        "try `palitune doctor` on it",
        model_type,
        model_path,
    )
    return family


def family_named(name: str, model_type: str | None = None) -> type[Family]:
    """Return the family of a `--model_type`: by its name, an alias or a `config.model_type`.

    Args:
        name: the value.
        model_type: that of the checkpoint which is to be fed so; one that has its own family
            can be fed as generic and as nothing else.

    Raises:
        ValueError: there is none, or it is another than the checkpoint's.
    """
    wanted = name.lower().replace("-", "_")
    for family in FAMILIES:
        names = (family.name, *family.aliases, *family.model_types)
        if wanted in (known.replace("-", "_") for known in names):
            break
    else:
        known = ", ".join(family.name for family in FAMILIES)
        raise ValueError(f"--model_type must be one of {known}, got {name}.")
    for own in FAMILIES:
        if model_type in own.model_types and own is not family and not issubclass(family, Generic):
            raise ValueError(
                f"--model_type {name} does not fit a checkpoint whose config.json says "
                f"{model_type}: leave it out, or name {own.name} or generic."
            )
    return family
