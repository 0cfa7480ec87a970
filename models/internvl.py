"""InternVL 2.5, 3 and 3.5 as transformers has them ("-hf"): an image cut into square tiles.

Chen et al. 2024, arXiv:2404.16821 (section 3.2: dynamic tiles) and arXiv:2412.05271. An image is
stretched to the grid of tiles whose proportions are nearest to its own and cut; behind the tiles
comes the whole image as one more, unless there is one tile alone. In the text `<img>` and
`</img>` stand around the context tokens of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from models.chat import ChatFamily
from models.encoding import Encoded

if TYPE_CHECKING:
    import torch
    from PIL import Image


class InternVL(ChatFamily):
    """Checkpoints of `model_type` internvl; the language model of one may be any."""

    name = "internvl"
    model_types = ("internvl",)
    foreign_types: ClassVar[dict[str, str]] = {
        "internvl_chat": "OpenGVLab/InternVL3-2B-hf or OpenGVLab/InternVL2_5-2B-MPO-hf"
    }
    unquantized_modules = ("model.vision_tower", "model.multi_modal_projector", "lm_head")
    image_options = ("min_pixels", "max_pixels")
    takes_several_images = True
    chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
        "{% for part in message.content %}"
        "{{ '<IMG_CONTEXT>\\n' if part.type == 'image' else part.text }}"
        "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )

    @cached_property
    def image_processor(self) -> Any:
        """Return the checkpoint's with as many tiles as the user's pixels make, which `save` keeps.

        The whole image behind the tiles does not count among them.

        Raises:
            ValueError: the user's pixels make no tile, or more at least than at most.
        """
        processor = super().image_processor
        least, most = self.options.min_pixels, self.options.max_pixels
        tile = processor.size.height * processor.size.width
        if most is not None:
            processor.max_patches = most // tile
        if least is not None:
            processor.min_patches = -(-least // tile)
        if not 1 <= processor.min_patches <= processor.max_patches:
            raise ValueError(
                f"--min_pixels to --max_pixels must hold a whole number of tiles of {tile} pixels "
                f"for {self.location}, got at least {processor.min_patches} and at most "
                f"{processor.max_patches}; where one is left out, it is the checkpoint's."
            )
        return processor

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return `pixel_values` (tiles, 3, height, width), float32; the ids of `<img>...</img>`."""
        # the checkpoint's file says not to crop, and its processor crops all the same
        pixels = self.image_processor(image, crop_to_patches=True, return_tensors="pt")
        tiles = pixels["pixel_values"]
        start, end = self.tokenizer.convert_tokens_to_ids(["<img>", "</img>"])
        context = [self.image_token_id] * (len(tiles) * self._num_tile_tokens)
        return {"pixel_values": tiles}, [start, *context, end]

    def count_image_tokens(self, width: int, height: int) -> int:
        """Count the tokens of the tiles of an image of this shape, and the two around them."""
        count = self.image_processor.get_number_of_image_patches
        num_tiles = int(count(height, width, {"crop_to_patches": True}))
        return num_tiles * self._num_tile_tokens + 2

    @property
    def _num_tile_tokens(self) -> int:
        size = self.image_processor.size
        rows, columns = (
            int(side // patch * self.config.downsample_ratio)
            for side, patch in zip(
                (size["height"], size["width"]), self.config.vision_config.patch_size, strict=True
            )
        )
        return rows * columns

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join the tiles of all images one after the other."""
        import torch

        return {name: torch.cat([entry[name] for entry in pixels]) for name in pixels[0]}

    def render_image(self, encoded: Encoded) -> "Image.Image":
        """Draw the whole image, which is the last tile."""
        return super().render_image(
            replace(encoded, pixels={"pixel_values": encoded.pixels["pixel_values"][-1]})
        )
