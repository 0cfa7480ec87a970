"""Examples -> tokens and pixels, many at once: each image is opened once, small ones together.

Pillow and NumPy release Python's lock for most of the time, so a process that computes between its
batches reads each of them on all its processors.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from common.threads import map_ahead
from common.workers import count_threads
from models.base import Family
from models.encoding import Encoded, Message
from tasks.base import Example, ImageRef

if TYPE_CHECKING:
    from PIL import Image

_PIXELS = 2**22  # of images that are open at once; those of one example may have more
_SMALL = 2**16  # pixels of an image that is decoded about as soon as a thread begins with it


def encode_examples(
    family: Family, examples: Sequence[Example], conversations: Sequence[Sequence[Message]]
) -> list[Encoded]:
    """Encode examples in their order; those on the same images share their pixels.

    Args:
        family: encodes.
        examples: their images are opened.
        conversations: of each example.

    Raises:
        ValueError: an image cannot be used; names the example.
    """
    of_images: dict[tuple[ImageRef, ...], list[int]] = {}
    for place, example in enumerate(examples):
        of_images.setdefault(example.images, []).append(place)
    groups = list(of_images.values())
    first = [examples[places[0]] for places in groups]  # one of each
    num_threads = min(count_threads(), len(first))
    if num_threads > 1 and not _is_small(first[0].image):
        prepared = map_ahead(lambda example: next(_prepare(family, [example])), first, num_threads)
    else:
        prepared = _prepare(family, first)
    encoded: dict[int, Encoded] = {}
    for places, seen in zip(groups, prepared, strict=True):
        with naming(examples[places[0]]):
            entries = family.put_together(seen, [conversations[place] for place in places])
        encoded |= zip(places, entries, strict=True)
    return [
        dataclasses.replace(encoded[place], example_id=example.example_id)
        for place, example in enumerate(examples)
    ]


@contextmanager
def naming(example: Example) -> Iterator[None]:
    """Name the example in each ValueError of the block."""
    try:
        yield
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{reason} (example {example.example_id}).") from error


def _is_small(image: ImageRef) -> bool:
    try:
        width, height = image.dimensions()
    except ValueError:
        return True  # opening it will say what is wrong
    return width * height < _SMALL


def _prepare(family: Family, examples: Sequence[Example]) -> Iterator[Any]:
    """Open and prepare the images of each example; those of several at a time where small."""
    opened: list[list[Image.Image]] = []
    num_pixels = 0
    for place, example in enumerate(examples, 1):
        with naming(example):
            opened.append([image.open() for image in example.images])
        num_pixels += sum(image.width * image.height for image in opened[-1])
        if num_pixels >= _PIXELS or place == len(examples):
            yield from _prepare_opened(family, examples[place - len(opened) : place], opened)
            opened, num_pixels = [], 0


def _prepare_opened(
    family: Family, examples: Sequence[Example], opened: Sequence[Sequence["Image.Image"]]
) -> list[Any]:
    try:
        return family.prepare(opened)
    except ValueError:
        if len(examples) == 1:
            with naming(examples[0]):
                raise
        # each alone: the one at fault is named
        pairs = zip(examples, opened, strict=True)
        return [_prepare_opened(family, [example], [images])[0] for example, images in pairs]
