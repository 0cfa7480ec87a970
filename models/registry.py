"""Every model family, found by `config.model_type`."""

from models.base import Family
from models.llava import Llava
from models.paligemma import PaliGemma

FAMILIES: tuple[type[Family], ...] = (PaliGemma, Llava)


def family_of(model_type: str, model_path: str) -> type[Family]:
    """The family that serves a checkpoint of this `config.model_type`.

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


def family_named(name: str) -> type[Family]:
    """The family of a value of `--model_type`: its name, an alias or a `config.model_type`.

    Raises:
        ValueError: there is none; names those that there are.
    """
    wanted = name.lower().replace("-", "_")
    for family in FAMILIES:
        names = (family.name, *family.aliases, *family.model_types)
        if wanted in (known.replace("-", "_") for known in names):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(f"--model_type must be one of {known}, got {name}.")
