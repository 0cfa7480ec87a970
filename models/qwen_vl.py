"""Qwen2-VL and Qwen2.5-VL: images in their own proportions, positions in rows and columns.

Wang et al. 2024, arXiv:2409.12191 (dynamic resolution, section 2.1; M-RoPE); Bai et al. 2025,
arXiv:2502.13923. An image is brought to whole blocks of 2 x 2 patches, each of which is a token;
layout of a conversation as at https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import isqrt
from typing import TYPE_CHECKING, Any, ClassVar

from models.chat import ChatFamily
from models.encoding import Encoded

if TYPE_CHECKING:
    import torch
    from PIL import Image

_MAX_ELONGATION = 200  # of the authors' preprocessing


class QwenVL(ChatFamily):
    """Both generations; they differ in the tower that sees, not in how they are fed."""

    name = "qwen_vl"
    model_types = ("qwen2_vl", "qwen2_5_vl")
    # its files keep the names of a language model alone, which are right in one
    renames: ClassVar = {
        r"^visual\.": "model.visual.",
        r"^model\.(?=(?:layers|embed_tokens|norm)\.)": "model.language_model.",
    }
    foreign_types: ClassVar[dict[str, str]] = {
        "qwen": "Qwen/Qwen2-VL-2B-Instruct or Qwen/Qwen2.5-VL-3B-Instruct"
    }
    unquantized_modules = ("model.visual", "lm_head")
    takes_several_images = True
    image_options = ("image_size", "min_pixels", "max_pixels")
    chat_template = (
        "{% if messages[0].role != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
        "{% for part in message.content %}"
        "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}"
        "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )

    @cached_property
    def image_processor(self) -> Any:
        """Return the checkpoint's with the user's image size, which `save` keeps.

        `--image_size` stands in it as `square_side`, which is ours: `look` brings every image to
        that square. A model that is fed without us has as many pixels, in their own proportions.
        Least and most pixels are the authors': rounding to whole blocks may go a little past them.

        Raises:
            ValueError: the sizes contradict each other, a side is not made of whole tokens, or an
                image would have more of them than the model has positions.
        """
        from transformers.image_utils import SizeDict

        processor = super().image_processor
        block = processor.patch_size * processor.merge_size
        side = self.options.image_size
        least, most = self.options.min_pixels, self.options.max_pixels
        if side is not None:
            self._check_side(side, block)
            processor.square_side = side
            processor.size = SizeDict(shortest_edge=side**2, longest_edge=side**2)
        elif least is not None or most is not None:
            known = dict(type(processor).size)
            if self._side(processor) is None:  # else they are the square's of a training
                known |= dict(processor.size)
            least, most = least or known["shortest_edge"], most or known["longest_edge"]
            if least > most:
                raise ValueError(
                    f"--min_pixels must not be over --max_pixels for {self.location}, got {least} "
                    f"and {most}; where one is left out, it is the checkpoint's."
                )
            if least > (limit := self._num_positions * block**2):
                raise ValueError(
                    f"--min_pixels {least} makes every image more tokens than the "
                    f"{self._num_positions:,} positions of {self.location}; give at most {limit}."
                )
            processor.square_side = None
            processor.size = SizeDict(shortest_edge=least, longest_edge=most)
        return processor

    @staticmethod
    def _side(processor: Any) -> int | None:
        """That of the square to which images are brought; None where they keep proportions."""
        # earlier runs have it as the height
        side: int | None = getattr(processor, "square_side", None) or processor.size.height
        return side

    @property
    def _num_positions(self) -> int:
        """Tokens that the language model was made for."""
        return int(self.config.get_text_config().max_position_embeddings)

    def _check_side(self, side: int, block: int) -> None:
        if self.options.min_pixels is not None or self.options.max_pixels is not None:
            raise ValueError(
                "--image_size brings every image to one size, beside which --min_pixels and "
                "--max_pixels have no meaning; give one or the other."
            )
        if side % block:
            raise ValueError(
                f"--image_size must be a multiple of {block}, the side of one token of "
                f"{self.location}, got {side}; {max(1, round(side / block)) * block} is the "
                "nearest."
            )
        limit = self._num_positions
        if (side // block) ** 2 > limit:
            raise ValueError(
                f"--image_size is a side in pixels, not their number, and {side} makes every "
                f"image {(side // block) ** 2:,} tokens, where {self.location} has {limit:,} "
                f"positions; give at most {isqrt(limit) * block}."
            )

    def check_dimensions(self, width: int, height: int) -> None:
        """Refuse an image that is too long and thin for the model's grid of patches."""
        if self._side(self.image_processor) is not None:
            return
        if max(width, height) > _MAX_ELONGATION * min(width, height):
            raise ValueError(
                f"An image of {width} x {height} pixels is too long and thin: one "
                f"side may be {_MAX_ELONGATION} times the other; crop it, or pass --image_size."
            )

    def count_image_tokens(self, width: int, height: int) -> int:
        """Count the blocks of patches of an image of this shape."""
        processor = self.image_processor
        side = self._side(processor)
        sides = (height, width) if side is None else (side, side)
        num_patches: int = processor.get_number_of_image_patches(*sides)
        return num_patches // int(processor.merge_size) ** 2

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return the patches and their grid, and an id for each block of them.

        Returns:
            `pixel_values` (patches, channels x 2 x patch height x patch width), float32, block by
            block; `image_grid_thw` (1, 3): 1, rows and columns of patches; then the ids.
        """
        side = self._side(self.image_processor)
        if side is not None:
            image = image.resize((side, side), self.image_processor.resample)
        self.check_dimensions(image.width, image.height)
        pixels = dict(self.image_processor(image, do_resize=side is None, return_tensors="pt"))
        block = self.config.vision_config.spatial_merge_size**2
        return pixels, [self.image_token_id] * (int(pixels["image_grid_thw"].prod()) // block)

    def token_masks(self, text: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Make `mm_token_type_ids`, 1 for the image, 0 for text.

        From them the model counts positions: an image's go along its rows and columns.
        """
        return {"mm_token_type_ids": (text["input_ids"] == self.image_token_id).long()}

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join the patches of all images one after the other, and the grids."""
        import torch

        return {name: torch.cat([entry[name] for entry in pixels]) for name in pixels[0]}

    def render_image(self, encoded: Encoded) -> "Image.Image":
        """Draw the image put together from its patches."""
        processor = self.image_processor
        patch, merge = processor.patch_size, processor.merge_size
        _, rows, columns = encoded.pixels["image_grid_thw"][0].tolist()
        # a still image is two equal frames, of which one is taken
        blocks = encoded.pixels["pixel_values"].reshape(
            rows // merge, columns // merge, merge, merge, 3, processor.temporal_patch_size,
            patch, patch,
        )[:, :, :, :, :, 0]  # fmt: skip
        whole = blocks.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * patch, columns * patch)
        return super().render_image(replace(encoded, pixels={"pixel_values": whole}))
