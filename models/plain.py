"""Families without a chat format: a prompt about an image, and at most one answer to it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from models.base import Family
from models.encoding import IMAGE_PLACEHOLDER, Illustrated, Message, num_images
from models.text_tokens import count_around, encode_text


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
