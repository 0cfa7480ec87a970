"""Images to feed a family, and the text of what it makes of them."""

from typing import Any

import numpy as np
from PIL import Image

from models.encoding import Encoded


def image(size: tuple[int, int] = (80, 50), seed: int = 0) -> Image.Image:
    """Noise of this width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def text_of(family: Any, example: Encoded) -> str:
    """The tokens as text, those of each image as one `<image>`."""
    ends = [0, *(place for span in example.image_spans for place in span), len(example.input_ids)]
    texts = [example.input_ids[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)]
    return "<image>".join(family.tokenizer.decode(text) for text in texts)
