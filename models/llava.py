r"""LLaVA 1.5 over any language model: a square image, one projected feature a patch.

Liu et al. 2023, arXiv:2310.03744; layout of a conversation as at
https://huggingface.co/docs/transformers/model_doc/llava: `USER: <image>\n… ASSISTANT: …</s>`.
"""

import re
from typing import TYPE_CHECKING, ClassVar

from models.chat import ChatFamily

if TYPE_CHECKING:
    import torch
    from PIL import Image

# How many features each tower gives that are no patch.
_CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}


class Llava(ChatFamily):
    """LLaVA 1.5 and its likes (`llava_gemma`); the chat template is the language model's."""

    name = "llava"
    model_types = ("llava",)
    aliases: ClassVar[tuple[str, ...]] = ("llava_gemma",)
    takes_several_images = True
    unquantized_modules = ("model.vision_tower", "model.multi_modal_projector", "lm_head")
    chat_template = (
        "{% for message in messages %}"
        "{% if message.role == 'system' %}{{ message.content[0].text + ' ' }}"
        "{% else %}{{ message.role.upper() + ': ' }}"
        "{% for part in message.content %}"
        "{{ '<image>\\n' if part.type == 'image' else part.text }}{% endfor %}"
        "{{ eos_token if message.role == 'assistant' else ' ' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return `pixel_values` (3, height, width), float32, and an id for each feature."""
        pixels = self.image_processor(images=image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels}, [self.image_token_id] * self.num_features(
            *pixels.shape[1:]
        )

    def is_unused(self, layer: str) -> bool:
        """Return True for layers behind the last one whose features are taken, too."""
        taken = self.config.vision_feature_layer
        total = self.config.vision_config.num_hidden_layers
        # hidden state 0 is what the first layer gets; negative ones count from the last
        taken = taken if isinstance(taken, list) else [taken]
        last = max(number if number >= 0 else total + 1 + number for number in taken)
        found = re.match(r"model\.vision_tower\..*?layers\.(\d+)\.", layer)
        is_behind = found is not None and int(found[1]) >= last
        return is_behind or super().is_unused(layer)

    def num_features(self, height: int, width: int) -> int:
        """Count the features of a square: its patches, and the class token if it is kept.

        Raises:
            ValueError: the tower is none whose features are known.
        """
        vision = self.config.vision_config
        if vision.model_type not in _CLASS_TOKENS:
            raise ValueError(
                f"{self.location} sees through a {vision.model_type}; {self.name} models can be "
                f"used with {' or '.join(_CLASS_TOKENS)}."
            )
        num_patches = (height // vision.patch_size) * (width // vision.patch_size)
        drops_first = self.config.vision_feature_select_strategy == "default"
        return int(num_patches + _CLASS_TOKENS[vision.model_type] - drops_first)
