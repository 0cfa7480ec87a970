r"""BLIP-2 with an OPT language model (Li et al. 2023, arXiv:2301.12597): no chat, a text goes on.

Layout of one example: `<image> * N  </s> prompt answer \n`, as the authors' `Blip2OPT` trains it
(https://github.com/salesforce/LAVIS, lavis/models/blip2_models/blip2_opt.py): OPT starts a text
with `</s>`, and a line break ends an answer. The N tokens of an image of any size are what the
Q-Former's queries see.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from models.plain import PlainFamily

if TYPE_CHECKING:
    import torch


class Blip2(PlainFamily):
    """The checkpoints whose language model is a decoder; those with T5 are refused."""

    name = "blip2"
    title = "BLIP-2"
    model_types = ("blip-2",)
    language_model = "language_model.model"
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

    def layout(self, prompt: str, answers: Sequence[str]) -> list[str]:
        """Put a space before the answer, where the prompt does not end with white space.

        In OPT's vocabulary most words begin with theirs.
        """
        space = " " if prompt and not prompt[-1].isspace() else ""
        return [prompt, *(space + answer for answer in answers)]

    @property
    def image_ids(self) -> list[int]:
        """Return an id for each of the queries."""
        return [int(self.config.image_token_id)] * int(self.config.num_query_tokens)

    @cached_property
    def end_ids(self) -> list[int]:
        """Return the line break, where the checkpoint's config says so, then OPT's own end."""
        ends = (self.config.text_config.eos_token_id, self.tokenizer.eos_token_id)
        return list(dict.fromkeys(ends))

    def texts(self, ids: "torch.Tensor") -> list[str]:
        """Decode answers, without the space before and the line break behind."""
        return [text.strip() for text in super().texts(ids)]
