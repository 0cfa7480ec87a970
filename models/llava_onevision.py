"""LLaVA-OneVision: as LLaVA-NeXT, with grids of up to 6 x 6 tiles brought down to a budget.

Li et al. 2024, arXiv:2408.03326, section 3.2 (Higher AnyRes). A grid with clearly more features
than 9 tiles have (the 9 of `anyres_max_9`) is shrunk to about as many, bilinearly. Where an example
has several images, each is padded to a square and seen whole, without tiles (section 3.2: the
multi-image case).
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING

from models.encoding import Seen
from models.llava_next import LlavaNext

if TYPE_CHECKING:
    import torch
    from PIL import Image

_NUM_IMAGES = "batch_num_images"  # of each example, as the model is told

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

    def process_images(self, images: Sequence["Image.Image"]) -> Sequence[Seen]:
        """Return the tiles of one image; of several each whole, with the newline behind it.

        The first of several carries their number, from which the model knows that it has no tiles.
        """
        import torch

        if len(images) == 1:
            return super().process_images(images)
        batch = self.image_processor(images=[list(images)], return_tensors="pt")
        ids = [self.image_token_id] * self._num_whole_tokens
        return [
            (
                {
                    "pixel_values": batch["pixel_values"][place],
                    "image_sizes": batch["image_sizes"][place],
                    _NUM_IMAGES: torch.tensor([] if place else [len(images)], dtype=torch.long),
                },
                ids,
            )
            for place in range(len(images))
        ]

    @property
    def _num_whole_tokens(self) -> int:
        """Those of an image without tiles: its features and a newline."""
        side = self.config.vision_config.image_size
        return self.num_features(side, side) + 1

    def count_all_image_tokens(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Count as in Family; each of several images has no tiles."""
        if len(sizes) > 1:
            return len(sizes) * self._num_whole_tokens
        return super().count_all_image_tokens(sizes)

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join as LLaVA-NeXT does, with the numbers of images where an example has several."""
        import torch

        joined = super().stack(pixels)
        if any(_NUM_IMAGES in entry for entry in pixels):
            one = torch.ones(1, dtype=torch.long)
            joined[_NUM_IMAGES] = torch.cat([entry.get(_NUM_IMAGES, one) for entry in pixels])
        return joined

    def kept(self, rows: int, columns: int) -> tuple[int, int]:
        """Shrink the grid in its own proportions where it has too many features."""
        vision = self.config.vision_config
        max_tiles = int(self.config.vision_aspect_ratio.removeprefix("anyres_max_"))
        excess = sqrt(rows * columns / (max_tiles * (vision.image_size // vision.patch_size) ** 2))
        if excess <= _TOLERANCE:
            return rows, columns
        return int(rows // excess), int(columns // excess)
