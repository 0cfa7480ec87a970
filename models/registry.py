"""Every model family, found by `config.model_type`; the user's beside ours."""

import logging
from collections.abc import Mapping
from typing import Any

from common.installed_code import entry_points, load_entry_point, shown
from common.user_code import (
    check_name,
    code_of,
    find_classes,
    load_unchanged,
    place_of,
    remedy,
)
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


_OUR_NAMES = frozenset(family.name for family in FAMILIES)
_added: list[type[Family]] = []  # of the user's code, in the order in which it was loaded
_broken: dict[str, str] = {}  # entry point -> what is wrong with it


def families() -> tuple[type[Family], ...]:
    """Return every family: ours, loaded ones, those of installed packages."""
    for name, entry in entry_points("palitune.families", _OUR_NAMES).items():
        if name in _broken or any(family.name == name for family in _added):
            continue
        try:
            kinds = load_entry_point(entry, Family)
            names = [_add(kind).name for kind in kinds]
            if name not in names:
                raise ValueError(f"{shown(entry)} holds {', '.join(names)}, and no such family.")
        except ValueError as error:
            _broken[name] = str(error)
            logger.warning("%s", error)
    return (*_added, *FAMILIES)


def load_families(text: str, option: str = "--family_module") -> list[type[Family]]:
    """Load a file or a module of the user's, and add its families to those known.

    Args:
        text: path of a `.py` file, or the dotted name of an installed module.
        option: what names it, for errors.

    Raises:
        ValueError: it cannot be loaded, has no complete family, or a name is taken; says where.
    """
    code = load_unchanged(text, option)
    before = [family for family in _added if code_of(family) == code]
    return before or [_add(kind) for kind in find_classes(code, Family, option)]


def loaded_families() -> tuple[type[Family], ...]:
    """Return the families of the user's code that was loaded."""
    return tuple(_added)


def find_family(name: str) -> type[Family] | None:
    """Return the family of this name; None where there is none."""
    return next((family for family in families() if family.name == name), None)


def lineage(family: type[Family]) -> tuple[str, ...]:
    """Return a family's name and, where it derives from complete ones, theirs, the nearest first.

    So a family that feeds the same models in another way is asked by the same prompts.
    """
    names = (vars(kind).get("name") for kind in family.__mro__)
    return tuple(name for name in names if isinstance(name, str))


def _add(kind: type[Family]) -> type[Family]:
    where = place_of(kind)
    check_name(kind.name, kind)
    known = (*_added, *FAMILIES)
    own = {_plain(name) for name in (kind.name, *kind.aliases)}
    types = {_plain(name) for name in (*kind.model_types, *kind.foreign_types)}
    for family in known:
        names = {_plain(name) for name in (family.name, *family.aliases, *family.model_types)}
        if taken := sorted(own & names):
            raise ValueError(
                f"{where}: {kind.__name__} has the name {taken[0]}, which the family {family.name} "
                f"has; {remedy(taken[0], kind)}."
            )
        if taken := sorted(types & {_plain(name) for name in family.model_types}):
            raise ValueError(
                f"{where}: {kind.__name__}.model_types has {taken[0]}, which the family "
                f"{family.name} serves; set model_types = () and choose it by --model_type "
                f"{kind.name}."
            )
    for name in ("encode", "encode_all"):
        if getattr(kind, name) is not getattr(Family, name):
            raise ValueError(
                f"{where}: {kind.__name__} has its own {name}, which no batch is encoded by; "
                "override process_image, prepare or tokenize."
            )
    _added.append(kind)
    return kind


def _plain(name: str) -> str:
    return name.replace("-", "_")


def check_native(model_type: str, model_path: str) -> None:
    """Refuse a checkpoint in its authors' own format.

    Raises:
        ValueError: transformers cannot read it; names what it can.
    """
    for family in families():
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
    for family in families():
        if model_type in family.model_types:
            return family
    served = ", ".join(name for family in families() for name in family.model_types)
    raise ValueError(
        f"{model_path} is a model of type '{model_type}'; types that can be used are {served}."
    )


def family_for(config: Mapping[str, Any], model_path: str) -> type[Family]:
    """Return the family of a full model by its config.json: the generic one where none is its.

    Raises:
        ValueError: nothing in its config.json is about images.
    """
    model_type = str(config.get("model_type"))
    if any(model_type in family.model_types for family in families()):
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


def several_take() -> str:
    """Return the remedy for examples of several images."""
    names = [family.name for family in FAMILIES if family.takes_several_images is True]
    return f"take a model of {', '.join(names)}, or leave such examples out"


def family_named(name: str, model_type: str | None = None) -> type[Family]:
    """Return the family of a `--model_type`: by its name, an alias or a `config.model_type`.

    Args:
        name: the value.
        model_type: that of the checkpoint which is to be fed so; one that has its own family
            can be fed as generic, or by a family that derives from its own.

    Raises:
        ValueError: there is none, or it is another than the checkpoint's.
    """
    wanted = name.lower().replace("-", "_")
    for family in families():
        names = (family.name, *family.aliases, *family.model_types)
        if wanted in map(_plain, names):
            break
    else:
        if name in _broken:
            raise ValueError(_broken[name])
        known = ", ".join(family.name for family in families())
        raise ValueError(
            f"--model_type must be one of {known}, got {name}; one of your own is named by "
            "--family_module."
        )
    for own in families():
        if model_type in own.model_types and not issubclass(family, (own, Generic)):
            raise ValueError(
                f"--model_type {name} does not fit a checkpoint whose config.json says "
                f"{model_type}: leave it out, or name {own.name} or generic."
            )
    return family
