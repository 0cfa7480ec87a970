r"""PaliGemma 1 and 2: prefix-LM over SigLIP features (Beyer et al. 2024, arXiv:2407.07726).

Layout of one example: `<image> * N  <bos> prompt \n answer <eos>`. Image and prompt attend to
each other in both directions, the answer causally (section 3.2 of the paper); the loss is on the
answer alone.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.base import Family
from models.encoding import IGNORE_INDEX, IMAGE_PLACEHOLDER, Message
from models.text_tokens import count_around, encode_text

if TYPE_CHECKING:
    import torch
    from PIL import Image


class PaliGemma(Family):
    """Both generations; they differ in the language model (Gemma, Gemma 2), not in the layout."""

    name = "paligemma"
    model_types = ("paligemma",)
    num_turn_tokens = 2  # <bos> and the line break; <eos>
    unquantized_modules = ("model.vision_tower", "model.multi_modal_projector", "lm_head")

    @cached_property
    def processor(self) -> Any:
        """Return the whole processor: it knows how many tokens an image is."""
        from transformers import AutoProcessor

        from models.pixels import quickened

        processor = self._from_pretrained(AutoProcessor)
        processor.image_processor = quickened(processor.image_processor)
        return processor

    @property
    def image_processor(self) -> Any:
        """Return the processor's own."""
        return self.processor.image_processor

    def save(self, folder: str) -> None:
        """Write the whole processor."""
        self.processor.save_pretrained(folder)

    @property
    def num_image_tokens(self) -> int:
        """Return the tokens that stand for an image; fixed by the checkpoint's image size."""
        number = getattr(self.image_processor, "image_seq_length", None)
        if number is None:
            vision = self.config.vision_config
            expected = (vision.image_size // vision.patch_size) ** 2
            raise ValueError(
                f"The image processor of {self.location} does not say its number of image tokens; "
                f"add image_seq_length to its settings, {expected} by its config.json."
            )
        return int(number)

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        r"""Tokenise as `image <bos> prompt \n answer <eos>`."""
        prompt, *answers = self._texts(messages)
        prefix = [
            IMAGE_PLACEHOLDER,
            self.tokenizer.bos_token_id,
            *encode_text(self.tokenizer, prompt),
        ]
        answer = (
            [*encode_text(self.tokenizer, answers[0]), self.tokenizer.eos_token_id]
            if answers
            else []
        )
        return prefix + answer, [False] * len(prefix) + [True] * len(answer)

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count as in Family: `<bos>` comes with a prompt, `<eos>` with an answer."""
        return count_around(self.tokenizer, map(self._texts, conversations))

    def _texts(self, messages: Sequence[Message]) -> list[str]:
        roles = [role for role, _ in messages]
        if roles not in (["user"], ["user", "assistant"]):
            raise ValueError(
                f"PaliGemma takes one user turn and at most one answer, got turns {roles}; "
                "it has no chat format."
            )
        return [messages[0][1] + "\n", *(text for _, text in messages[1:])]

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return `pixel_values` (3, height, width), float32, and the ids that stand for it."""
        pixels = self.image_processor(images=image, return_tensors="pt")["pixel_values"]
        ids = [self.processor.image_token_id] * self.num_image_tokens
        return {"pixel_values": pixels[0]}, ids

    def token_masks(self, text: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Make `token_type_ids`, 0 for image and prompt, 1 for the answer.

        Without them the model would, silently, read the prompt causally or even see the answer
        that it is to predict.
        """
        return {"token_type_ids": (text["labels"] != IGNORE_INDEX).long()}
