r"""BLIP-2 with an OPT language model (Li et al. 2023, arXiv:2301.12597): no chat, a text goes on.

Layout of one example: `<image> * N  </s> prompt answer \n`, as the authors' `Blip2OPT` trains it
(https://github.com/salesforce/LAVIS, lavis/models/blip2_models/blip2_opt.py): OPT starts a text
with `</s>`, and a line break ends an answer. The N tokens of an image of any size are what the
Q-Former's queries see.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.base import Family
from models.encoding import IMAGE_PLACEHOLDER, Encoded, Message
from models.settings import Decoding
from models.text_tokens import count_around, encode_text

if TYPE_CHECKING:
    import torch
    from PIL import Image


class Blip2(Family):
    """The checkpoints whose language model is a decoder; those with T5 are refused."""

    name = "blip2"
    model_types = ("blip-2",)
    language_model = "language_model.model"
    num_turn_tokens = 2  # </s>; the space before an answer and the line break behind
    unquantized_modules = (
        *("vision_model", "qformer", "language_projection"),
        "language_model.lm_head",
    )

    def _check(self) -> None:
        if not self.config.use_decoder_only_language_model:
            raise ValueError(
                f"{self.location} is BLIP-2 with an encoder-decoder "
                f"({self.config.text_config.model_type}), and only those with a decoder can be "
                "used; take Salesforce/blip2-opt-2.7b or Salesforce/blip2-opt-6.7b."
            )
        if self.config.image_token_id is None:
            raise ValueError(
                f"{self.location} has no image_token_index in config.json: its files are older "
                "than transformers 4.46; take a newer revision."
            )

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        r"""Tokenise as `image </s> prompt answer \n`.

        The answer follows behind a space, where the prompt does not end with white space: in
        OPT's vocabulary most words begin with theirs.
        """
        prompt, *answers = self._texts(messages)
        prefix = [
            IMAGE_PLACEHOLDER,
            self.tokenizer.bos_token_id,
            *encode_text(self.tokenizer, prompt),
        ]
        answer = [*encode_text(self.tokenizer, answers[0]), self.end_ids[0]] if answers else []
        return prefix + answer, [False] * len(prefix) + [True] * len(answer)

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count as in Family: `</s>` comes with a prompt, the line break with an answer."""
        return count_around(self.tokenizer, map(self._texts, conversations))

    def _texts(self, messages: Sequence[Message]) -> list[str]:
        roles = [role for role, _ in messages]
        if roles not in (["user"], ["user", "assistant"]):
            raise ValueError(
                f"BLIP-2 takes one user turn and at most one answer, got turns {roles}; it has no "
                "chat format."
            )
        prompt = messages[0][1]
        space = " " if prompt and not prompt[-1].isspace() else ""
        return [prompt, *(space + text for _, text in messages[1:])]

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return `pixel_values` (3, height, width), float32, and an id for each of the queries."""
        pixels = self.image_processor(images=image, return_tensors="pt")["pixel_values"]
        ids = [int(self.config.image_token_id)] * int(self.config.num_query_tokens)
        return {"pixel_values": pixels[0]}, ids

    @cached_property
    def end_ids(self) -> list[int]:
        """Return the line break, where the checkpoint's config says so, then OPT's own end."""
        ends = (self.config.text_config.eos_token_id, self.tokenizer.eos_token_id)
        return list(dict.fromkeys(ends))

    def generate(self, model: Any, batch: Sequence[Encoded], decoding: Decoding) -> list[str]:
        """Answer each example, without the space before and the line break behind."""
        return [answer.strip() for answer in super().generate(model, batch, decoding)]
