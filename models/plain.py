"""Families without a chat format: a prompt about an image, and at most one answer to it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from models.base import Family
from models.encoding import (
    IMAGE_PLACEHOLDER,
    Illustrated,
    Message,
    Seen,
    num_images,
)
from models.text_tokens import count_around, encode_text

if TYPE_CHECKING:
    from PIL import Image


class PlainFamily(Family):
    """Models that read `image start prompt answer end`, in which start and end are one token.

    Several images stand one behind the other in front, wherever a text has them.
    """

    title: ClassVar[str]  # as its authors call it
    # what the checkpoint's own processor takes for the image in a text; None where nothing is
    image_mark: ClassVar[str | None] = None
    num_turn_tokens = 2  # start or end, and what `layout` puts before or behind a text

    @abstractmethod
    def layout(self, prompt: str, answers: Sequence[str]) -> list[str]:
        """Return the texts as they are tokenised, the prompt first; there is one answer or none."""

    @property
    def image_ids(self) -> list[int]:
        """Return the ids that stand for an image, whatever its shape.

        A family with its own `process_image` needs none.
        """
        raise NotImplementedError

    def process_image(self, image: "Image.Image") -> Seen:
        """Return `pixel_values` (3, height, width), float32, and the ids that stand for it."""
        return self._process([image])[0]

    def _process(self, images: list["Image.Image"]) -> list[Seen]:
        import torch

        # not as a tensor of all of them, which would be a copy
        pixels = self.image_processor(images=images)["pixel_values"]
        return [({"pixel_values": torch.as_tensor(entry)}, self.image_ids) for entry in pixels]

    def prepare(self, shown: Sequence[Sequence["Image.Image"]]) -> list[list[Seen]]:
        """Prepare as in Family: all images in one call, which checks its settings at length."""
        from models.pixels import as_taken

        if not self._sees_as_here:
            return super().prepare(shown)
        images = [as_taken(image, self.image_processor) for own in shown for image in own]
        seen = iter(self._process(images))
        return [[next(seen) for _ in own] for own in shown]

    @property
    def _sees_as_here(self) -> bool:
        """Return True where no family derived from this one has its own way with an image."""
        ways = ("process_image", "process_images")
        methods = ((getattr(self, way), getattr(PlainFamily, way)) for way in ways)
        return all(getattr(own, "__func__", None) is here for own, here in methods)

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Tokenise as in Family.

        Raises:
            ValueError: there are other turns than a user's and an answer.
        """
        prompt, *answers = self._texts(messages)
        start = [IMAGE_PLACEHOLDER] * num_images(messages) + [self.tokenizer.bos_token_id]
        prefix = start + encode_text(self.tokenizer, prompt)
        answer = [*encode_text(self.tokenizer, answers[0]), self.end_ids[0]] if answers else []
        return prefix + answer, [False] * len(prefix) + [True] * len(answer)

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count as in Family: the start comes with a prompt, the end with an answer."""
        return count_around(self.tokenizer, map(self._texts, conversations))

    def _texts(self, messages: Sequence[Message]) -> list[str]:
        roles = [role for role, _ in messages]
        if roles not in (["user"], ["user", "assistant"]):
            raise ValueError(
                f"{self.title} takes one user turn and at most one answer, got turns {roles}; it "
                "has no chat format."
            )
        prompt = messages[0][1]
        if isinstance(prompt, Illustrated):
            prompt = prompt.without_images
        return self.layout(prompt, [text for _, text in messages[1:]])
