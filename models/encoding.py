"""One example as a model reads it: token ids, pixels, and which tokens are learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100  # label of a position without loss
IMAGE_PLACEHOLDER = -1  # among token ids: where the image's tokens go

Message = tuple[str, str]  # (role, text); role is "user", "assistant" or "system"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids and pixels, not yet padded.

    Attributes:
        input_ids: `L` image, text and answer tokens.
        is_target: for each of them, whether the model learns to write it.
        image_span: the first of those that stand for the image, and the one behind the last.
        pixels: what the model takes beside them, by its own names (`pixel_values` and, where
            images keep their proportions, their sizes).
        example_id: of the example, for messages; None where it is none of a data set.
    """

    input_ids: list[int]
    is_target: list[bool]
    image_span: tuple[int, int]
    pixels: Mapping[str, "torch.Tensor"]
    example_id: str | int | None = None

    @property
    def num_image_tokens(self) -> int:
        """Return the number of tokens that stand for the image."""
        return self.image_span[1] - self.image_span[0]


def with_image(
    ids: list[int],
    is_target: list[bool],
    image_ids: list[int],
    pixels: Mapping[str, "torch.Tensor"],
) -> Encoded:
    """Put the tokens of an image where IMAGE_PLACEHOLDER stands among those of a conversation."""
    place = ids.index(IMAGE_PLACEHOLDER)
    return Encoded(
        input_ids=ids[:place] + image_ids + ids[place + 1 :],
        is_target=is_target[:place] + [False] * len(image_ids) + is_target[place + 1 :],
        image_span=(place, place + len(image_ids)),
        pixels=pixels,
    )
