"""One name per module: those of earlier transformers versions and of checkpoints, brought together.

The canonical name is the one in the memory of the installed transformers. Other sources:
files of PaliGemma (and of all that is laid out like LLaVA), which keep the names of transformers
before 4.52, and adapters, whose tensors are named as in the memory of the version that trained
them. The conversion rules are those of `transformers/conversion_mapping.py` ("llava",
"LlavaModel", "CLIPVisionModel"): https://github.com/huggingface/transformers.
"""

import re

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
    (re.compile(r"^model\.vision_tower\.vision_model\."), "model.vision_tower."),
)
# Qwen-VL's files keep the names of a language model alone, which are right in one.
_QWEN_RENAMES = (
    (re.compile(r"^visual\."), "model.visual."),
    (re.compile(r"^model\.(?=(?:layers|embed_tokens|norm)\.)"), "model.language_model."),
)
_RENAMES_OF_TYPE = {"qwen2_vl": _QWEN_RENAMES, "qwen2_5_vl": _QWEN_RENAMES}


def canonical(name: str, model_type: str | None = None) -> str:
    """Return the name that a module, or a parameter, has in a model of the installed transformers.

    Names of families that were never renamed pass through unchanged, and so do canonical ones.

    Args:
        name: as a file or an adapter has it.
        model_type: the base's `config.model_type`, where it is known.
    """
    for pattern, replacement in (*_RENAMES, *_RENAMES_OF_TYPE.get(model_type or "", ())):
        name = pattern.sub(replacement, name)
    return name
