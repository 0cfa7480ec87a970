"""Examples -> tokens and pixels, many at once: each image is opened once, small ones together."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from models.base import Family
from models.encoding import Encoded, Message
from tasks.base import Example, ImageRef

if TYPE_CHECKING:
    from PIL import Image

Group = tuple[list[int], "list[Image.Image]"]  # places of examples, and the images they show

_PIXELS = 2**22  # of images that are open at once; those of one example may have more


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
    encoded: dict[int, Encoded] = {}
    for groups in _opened(examples, list(of_images.values())):
        for (places, _), entries in zip(
            groups, _encode(family, examples, conversations, groups), strict=True
        ):
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


def _opened(examples: Sequence[Example], groups: Sequence[list[int]]) -> Iterator[list[Group]]:
    """Open the images of several groups at a time, as long as they are small."""
    opened: list[Group] = []
    num_pixels = 0
    for places in groups:
        with naming(examples[places[0]]):
            images = [image.open() for image in examples[places[0]].images]
        opened.append((places, images))
        num_pixels += sum(image.width * image.height for image in images)
        if num_pixels >= _PIXELS:
            yield opened
            opened, num_pixels = [], 0
    if opened:
        yield opened


def _encode(
    family: Family,
    examples: Sequence[Example],
    conversations: Sequence[Sequence[Message]],
    groups: Sequence[Group],
) -> list[list[Encoded]]:
    shown = [images for _, images in groups]
    talks = [[conversations[place] for place in places] for places, _ in groups]
    try:
        return family.encode_batch(shown, talks)
    except ValueError:
        if len(groups) == 1:
            with naming(examples[groups[0][0][0]]):
                raise
        # each alone: the one at fault is named
        alone = (_encode(family, examples, conversations, [group]) for group in groups)
        return [entries for group in alone for entries in group]
