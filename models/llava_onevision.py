"""LLaVA-OneVision: as LLaVA-NeXT, with grids of up to 6 x 6 tiles brought down to a budget.

Li et al. 2024, arXiv:2408.03326, section 3.2 (Higher AnyRes). A grid with clearly more features
than 9 tiles have (the 9 of `anyres_max_9`) is shrunk to about as many, bilinearly.
"""

from math import sqrt

from models.llava_next import LlavaNext

_TOLERANCE = 1.1  # a side that is too long by less is left as it is


class LlavaOnevision(LlavaNext):
    """LLaVA-OneVision, based on Qwen2."""

    name = "llava_onevision"
    model_types = ("llava_onevision",)
    # as the authors ask; see convert_llava_onevision_weights_to_hf.py in transformers
    chat_template = (
        "{% if messages[0].role != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
        "{% for part in message.content %}"
        "{{ '<image>\\n' if part.type == 'image' else part.text }}{% endfor %}"
        "{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )

    def kept(self, rows: int, columns: int) -> tuple[int, int]:
        """Shrink the grid in its own proportions where it has too many features."""
        vision = self.config.vision_config
        max_tiles = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        excess = sqrt(rows * columns / (max_tiles * (vision.image_size // vision.patch_size) ** 2))
        if excess <= _TOLERANCE:
            return rows, columns
        return int(rows // excess), int(columns // excess)
