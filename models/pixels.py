"""Pixels as a checkpoint's image processor gives them, to the bit, in a fraction of the time.

The processors of transformers on Pillow copy a whole image several times before it is resized, and
normalise in double precision. The steps here stand in for theirs one by one. Their order, tiles and
padding stay those of the checkpoint's own class, and so does a step that this class has itself.
"""

from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_resize_output_image_size
from transformers.image_utils import ChannelDimension


def quickened(processor: Any) -> Any:
    """Return an image processor with quicker steps; one of another kind as it is.

    Its class keeps the name by which it is saved.
    """
    kind = type(processor)
    if isinstance(processor, PilBackend) and not isinstance(processor, _QuickSteps):
        # what the class has itself comes before the quick steps, and those before the library's
        members = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        processor.__class__ = type(kind.__name__, (kind, _QuickSteps), members)
    return processor


def _restore(kind: Any, values: dict[str, Any]) -> Any:
    processor = kind.__new__(kind)
    vars(processor).update(values)
    return quickened(processor)


def as_taken(image: Image.Image, processor: Any) -> Image.Image:
    """Return a grey image (L) as RGB unless the processor's steps make the same of both."""
    takes_grey = getattr(type(processor), "process_image", None) is _QuickSteps.process_image
    return image if takes_grey else image.convert("RGB")


def drawn(pixels: Any, processor: Any) -> Image.Image:
    """Draw pixels as the model gets them, their normalisation undone; of tiles the first.

    Args:
        pixels: tensor whose last dimensions are (3, height, width).
        processor: the image processor that made them.
    """
    tile = pixels.reshape(-1, *pixels.shape[-3:])[0].permute(1, 2, 0).numpy()
    bright = (tile * processor.image_std + processor.image_mean) * 255
    return Image.fromarray(bright.round().clip(0, 255).astype(np.uint8))


class _QuickSteps(PilBackend):
    """The steps of an image of bytes; what is anything else takes the library's way."""

    def __reduce__(self) -> tuple[Any, ...]:
        # where processes do not fork a worker gets it pickled, and a class made here has no name
        return _restore, (type(self).__mro__[1], vars(self))

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """Return (3, height, width) bytes; of a grey image one channel, thrice."""
        if not isinstance(image, Image.Image) or image.mode not in ("L", "RGB"):
            return super().process_image(image, *args, **kwargs)
        if type(self)._preprocess is PilBackend._preprocess and kwargs.get("do_resize"):
            # the first step then: done here, a large image is never copied, and done again it is
            # of the size that it has
            shape = np.broadcast_to(np.uint8(0), (3, image.height, image.width))
            target = _target(shape, kwargs["size"])
            if target not in (None, image.size) and kwargs["resample"] is not None:
                image = image.resize(target, kwargs["resample"])
        pixels = np.asarray(image)
        if image.mode == "L":
            return np.broadcast_to(pixels, (3, *pixels.shape))
        return np.moveaxis(pixels, -1, 0)

    def resize(
        self, image: np.ndarray, size: Any, resample: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Resize bytes by Pillow, a grey image as one channel."""
        known = image.dtype == np.uint8 and len(image) == 3 and resample is not None
        target = _target(image, size) if known else None
        if target is None:
            return super().resize(image, size, resample, *args, **kwargs)
        if target == (image.shape[2], image.shape[1]):
            return image  # Pillow copies it
        is_grey = image.strides[0] == 0
        shown = Image.fromarray(image[0] if is_grey else np.moveaxis(image, 0, -1))
        pixels = np.asarray(shown.resize(target, resample))
        if is_grey:
            return np.broadcast_to(pixels, (3, *pixels.shape))
        return np.moveaxis(pixels, -1, 0)

    def rescale(self, image: np.ndarray, scale: float, **kwargs: Any) -> Any:
        """Multiply in double precision, as the library does, without an image in it."""
        scaled = np.empty(image.shape, np.float32)
        return np.multiply(image, np.float64(scale), out=scaled, casting="same_kind")

    def normalize(self, image: np.ndarray, mean: Any, std: Any, **kwargs: Any) -> Any:
        """Normalise each channel in one new image."""
        if image.dtype != np.float32 or np.shape(mean) != (3,) or np.shape(std) != (3,):
            return super().normalize(image, mean, std, **kwargs)
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (mean, std))
        normal = image - mean
        normal /= std
        return normal


def _target(image: np.ndarray, size: Any) -> tuple[int, int] | None:
    """Width and height that an image is resized to; None where the library must say."""
    if size.height and size.width and not size.shortest_edge:
        return size.width, size.height
    if size.shortest_edge and not size.longest_edge:
        height, width = get_resize_output_image_size(
            image,
            size.shortest_edge,
            default_to_square=False,
            input_data_format=ChannelDimension.FIRST,
        )
        return width, height
    return None
