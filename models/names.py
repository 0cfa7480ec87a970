"""One name per module: those of earlier transformers versions and of checkpoints, brought together.

The canonical name is the one in the memory of the installed transformers. Other sources:
files of PaliGemma (and of all that is laid out like LLaVA), which keep the names of transformers
before 4.52, and adapters, whose tensors are named as in the memory of the version that trained
them. The conversion rules are those of `transformers/conversion_mapping.py`: https://github.com/huggingface/transformers.
"""

import re

from models.registry import families

_RENAMES = (  # in this order, each to what the one before has left
    (re.compile(r"^language_model\.lm_head(?=\.|$)"), "lm_head"),
    # BLIP-2's decoder stands where LLaVA's language model stood, and was not renamed
    (re.compile(r"^language_model\.model\.(?!decoder\.)"), "language_model."),
    (
        re.compile(
            r"^(?=(?:language_model(?!\.model\.decoder)|vision_tower|multi_modal_projector)\.)"
        ),
        "model.",
    ),
    (re.compile(r"^image_newline$"), "model.image_newline"),
    (re.compile(r"^model\.vision_tower\.vision_model\."), "model.vision_tower."),
)
_FORMER = (  # the rules above read backwards; what does not lead back to the name is dropped
    (re.compile(r"^lm_head(?=\.|$)"), "language_model.lm_head"),
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^model\.language_model\."), "language_model."),
    (re.compile(r"^model\.language_model\."), "model."),
    (re.compile(r"^model\.vision_tower\."), "model.vision_tower.vision_model."),
    (re.compile(r"^model\.vision_tower\."), "vision_tower.vision_model."),
    (re.compile(r"^model\.(?=(?:vision_tower|multi_modal_projector|visual)\.)"), ""),
)


def canonical(name: str, model_type: str | None = None) -> str:
    """Return the name that a module, or a parameter, has in a model of the installed transformers.

    Names of families that were never renamed pass through unchanged, and so do canonical ones.

    Args:
        name: as a file or an adapter has it.
        model_type: the base's `config.model_type`, where it is known.
    """
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    for family in families():
        if model_type in family.model_types:
            for regex, now in family.renames.items():
                name = re.sub(regex, now, name)
    return name


def former_names(name: str, model_type: str | None = None) -> list[str]:
    """Return the names that earlier versions and files have had for a module.

    An adapter's target_modules may be a regex of these. None are given of families that were
    never renamed.

    Args:
        name: the canonical one.
        model_type: the base's `config.model_type`, where it is known.
    """
    found = [rule.sub(new, name) for rule, new in _FORMER]
    return [
        old for old in dict.fromkeys(found) if old != name and canonical(old, model_type) == name
    ]
