"""LLaVA 1.5 over any language model: a square picture, one projected feature a patch.

Liu et al. 2023, arXiv:2310.03744; layout of a conversation as in the authors' `vicuna_v1`.
"""

from typing import TYPE_CHECKING, Any

from models.chat import ChatFamily

if TYPE_CHECKING:
    import torch
    from PIL import Image


class Llava(ChatFamily):
    """LLaVA 1.5 and its likes (`llava_gemma`); the chat template is the language model's."""

    name = "llava"
    model_types = ("llava",)
    aliases = ("llava_gemma",)
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

    def look(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """`pixel_values` (3, height, width), float32, and an id for each feature."""
        pixels = self.image_processor(images=image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels}, [self.image_token_id] * num_features(
            self.config, *pixels.shape[1:]
        )


def num_features(config: Any, height: int, width: int) -> int:
    """Features of one picture or tile: its patches, with CLIP's class token where it is kept."""
    vision = config.vision_config
    num_patches = (height // vision.patch_size) * (width // vision.patch_size)
    has_class_token = vision.model_type == "clip_vision_model"
    drops_first = config.vision_feature_select_strategy == "default"
    return int(num_patches + has_class_token - drops_first)
