"""LLaVA-NeXT (1.6): the whole image, then its tiles in the grid that wastes least.

Liu et al. 2024, https://llava-vl.github.io/blog/2024-01-30-llava-next/. Rows of the grid that hold
nothing but padding are left out, and each row that is kept ends in a learned newline feature
("spatial_unpad" of https://github.com/haotian-liu/LLaVA, `llava_arch.py`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.llava import Llava

if TYPE_CHECKING:
    import torch
    from PIL import Image


class LlavaNext(Llava):
    """LLaVA-NeXT over any language model; `--max_pixels` is for the tiles of an image."""

    name = "llava_next"
    model_types = ("llava_next",)
    aliases = ()
    image_options = ("max_pixels",)

    @cached_property
    def image_processor(self) -> Any:
        """Return the checkpoint's with the user's `max_pixels`, which `save` keeps.

        Raises:
            ValueError: no grid of tiles has so few pixels.
        """
        processor = super().image_processor
        most = self.options.max_pixels
        if most is not None:
            least = min(height * width for height, width in self.config.image_grid_pinpoints)
            if most < least:
                raise ValueError(
                    f"--max_pixels must be at least {least}, the smallest grid of tiles of "
                    f"{self.location}, got {most}; the whole image beside them does not count."
                )
            processor.max_pixels = most
        return processor

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return the pixels of the whole image and of `T - 1` tiles, and an id for each feature.

        Returns:
            `pixel_values` (T, 3, side, side), float32; `image_sizes` (2,): height and width of
            the image, from which the model finds the tiles again; then the ids.
        """
        image = self._shrunk(image)
        # cut by the model's own list of grids: it counts by that one
        grids = self.config.image_grid_pinpoints
        batch = self.image_processor(images=image, image_grid_pinpoints=grids, return_tensors="pt")
        pixels = {name: batch[name][0] for name in ("pixel_values", "image_sizes")}
        return pixels, [self.image_token_id] * self.num_tokens(image.height, image.width)

    def _shrunk(self, image: "Image.Image") -> "Image.Image":
        """An image that would have a grid of more than `max_pixels`, made to fit a smaller one.

        The model finds the grid by the image's size: it takes the smallest that loses least.
        """
        most = getattr(self.image_processor, "max_pixels", None)
        grids = self.config.image_grid_pinpoints
        height, width = self._grid(image.height, image.width, grids)
        if most is None or height * width <= most:
            return image
        allowed = [grid for grid in grids if grid[0] * grid[1] <= most]
        height, width = self._grid(image.height, image.width, allowed)
        scale = min(height / image.height, width / image.width)
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        return image.resize(size, self.image_processor.resample)

    def count_image_tokens(self, width: int, height: int) -> int:
        """Count the tokens of an image of this shape, made smaller where it is over the limit."""
        from PIL import Image

        shrunk = self._shrunk(Image.new("L", (width, height)))
        return self.num_tokens(shrunk.height, shrunk.width)

    def num_tokens(self, height: int, width: int) -> int:
        """Count an image's tokens: features of the whole, then grid rows with their newlines."""
        side, patch = self.config.vision_config.image_size, self.config.vision_config.patch_size
        grid = self._grid(height, width, self.config.image_grid_pinpoints)
        rows, columns = (pixels // side * (side // patch) for pixels in grid)
        rows, columns = self.kept(*_unpadded(height, width, rows, columns))
        return self.num_features(side, side) + rows * (columns + 1)

    def _grid(self, height: int, width: int, grids: list[list[int]]) -> tuple[int, int]:
        """Height and width in pixels of the grid that an image is cut into."""
        # the model itself chooses by this function, whose rounding decides between close grids
        from transformers.image_processing_utils import select_best_resolution

        best: tuple[int, int] = select_best_resolution((height, width), grids)
        return best

    def kept(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the features of a grid that are kept; here, all."""
        return rows, columns

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join along a new first dimension; empty tiles, which the model leaves out, fill up."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        tiles = pad_sequence([entry["pixel_values"] for entry in pixels], batch_first=True)
        sizes = torch.stack([entry["image_sizes"] for entry in pixels])
        return {"pixel_values": tiles, "image_sizes": sizes}


def _unpadded(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """The middle of a grid of features that an image of these proportions fills."""
    if width * rows > height * columns:  # wider than the grid: padded above and below
        return rows - (rows - height * columns // width) // 2 * 2, columns
    return rows, columns - (columns - width * rows // height) // 2 * 2
