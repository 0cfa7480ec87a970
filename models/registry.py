"""Every model family, found by `config.model_type`."""

from models.base import Family
from models.paligemma import PaliGemma

FAMILIES: tuple[type[Family], ...] = (PaliGemma,)


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
