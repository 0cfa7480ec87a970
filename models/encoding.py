"""One example as a model reads it: token ids, pixels, and which tokens are learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100  # label of a position without loss
IMAGE_PLACEHOLDER = -1  # among token ids: where an image's tokens go

Message = tuple[str, str]  # (role, text); role is "user", "assistant" or "system"


class Illustrated(str):
    """A text that says where its images stand; any other text leaves that to the layout.

    Attributes:
        places: of its images in their order, each the number of characters before it.
    """

    places: tuple[int, ...]

    def __new__(cls, text: str, places: Sequence[int]) -> "Illustrated":
        """Make the text; the places do not decrease."""
        made = super().__new__(cls, text)
        made.places = tuple(places)
        return made

    @property
    def parts(self) -> list[str]:
        """Return the texts before, between and behind the images; they may be empty."""
        ends = [0, *self.places, len(self)]
        return [self[start:end] for start, end in pairwise(ends)]

    @property
    def without_images(self) -> str:
        """Return the text as it reads where its images are shown elsewhere."""
        parts = [part for part in self.parts if part]
        gaps = ["" if a[-1].isspace() or b[0].isspace() else " " for a, b in pairwise(parts)]
        return "".join(gap + part for gap, part in zip(["", *gaps], parts, strict=True))


def num_images(messages: Sequence[Message]) -> int:
    """Return how many images a conversation shows: one where no text says."""
    return sum(len(text.places) for _, text in messages if isinstance(text, Illustrated)) or 1


def with_places(messages: Sequence[Message], number: int) -> Sequence[Message]:
    """Say where so many images stand: as the texts have it, else before the user's first.

    Raises:
        ValueError: the texts show another number of images.
    """
    if number > 1 and not any(isinstance(text, Illustrated) for _, text in messages):
        first = next((n for n, (role, _) in enumerate(messages) if role == "user"), 0)
        role, text = messages[first]
        shown = (role, Illustrated(text, (0,) * number))
        return [*messages[:first], shown, *messages[first + 1 :]]
    if num_images(messages) != number:
        raise ValueError(
            f"A conversation shows {num_images(messages)} images in its texts, and {number} are "
            "given; each image needs one place."
        )
    return messages


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids and pixels, not yet padded.

    Attributes:
        input_ids: `L` image, text and answer tokens.
        is_target: for each of them, whether the model learns to write it.
        image_spans: of each image the first of those that stand for it, and the one behind the
            last.
        pixels: what the model takes beside them, by its own names (`pixel_values` and, where
            images keep their proportions, their sizes).
        further_pixels: the same of each further image; none where `pixels` are of all images.
        example_id: of the example, for messages; None where it is none of a data set.
    """

    input_ids: list[int]
    is_target: list[bool]
    image_spans: tuple[tuple[int, int], ...]
    pixels: Mapping[str, "torch.Tensor"]
    further_pixels: tuple[Mapping[str, "torch.Tensor"], ...] = ()
    example_id: str | int | None = None

    @property
    def all_pixels(self) -> tuple[Mapping[str, "torch.Tensor"], ...]:
        """Return the pixels of the images in their order."""
        return (self.pixels, *self.further_pixels)

    @property
    def num_image_tokens(self) -> int:
        """Return the number of tokens that stand for images."""
        return sum(end - start for start, end in self.image_spans)


Seen = tuple[Mapping[str, "torch.Tensor"], list[int]]  # an image's pixels and the ids for it


def with_images(ids: list[int], is_target: list[bool], images: Sequence[Seen]) -> Encoded:
    """Put the tokens of each image where an IMAGE_PLACEHOLDER stands in a conversation."""
    whole: list[int] = []
    learned: list[bool] = []
    spans: list[tuple[int, int]] = []
    rest = 0
    for _, image_ids in images:
        place = ids.index(IMAGE_PLACEHOLDER, rest)
        whole += ids[rest:place]
        spans.append((len(whole), len(whole) + len(image_ids)))
        whole += image_ids
        learned += is_target[rest:place] + [False] * len(image_ids)
        rest = place + 1
    (pixels, *further) = [pixels for pixels, _ in images]
    return Encoded(
        input_ids=whole + ids[rest:],
        is_target=learned + is_target[rest:],
        image_spans=tuple(spans),
        pixels=pixels,
        further_pixels=tuple(further),
    )
