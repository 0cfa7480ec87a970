r"""PaliGemma 1 and 2: prefix-LM over SigLIP features (Beyer et al. 2024, arXiv:2407.07726).

Layout of one example: `<image> * N  <bos> prompt \n answer <eos>`. Image and prompt attend to
each other in both directions, the answer causally (section 3.2 of the paper); the loss is on the
answer alone. The tokens of several images follow each other in front, with nothing between them, as
in the paper's transfers to NLVR2 and to videos (section 3.2.4).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.encoding import IGNORE_INDEX
from models.plain import PlainFamily

if TYPE_CHECKING:
    import torch


class PaliGemma(PlainFamily):
    """Both generations; they differ in the language model (Gemma, Gemma 2), not in the layout."""

    name = "paligemma"
    title = "PaliGemma"
    model_types = ("paligemma",)
    image_mark = "<image>"
    takes_several_images = True
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

    def layout(self, prompt: str, answers: Sequence[str]) -> list[str]:
        """End the prompt with a line break."""
        return [prompt + "\n", *answers]

    @property
    def image_ids(self) -> list[int]:
        """Return the image token as often as the checkpoint's image size asks for."""
        return [self.processor.image_token_id] * self.num_image_tokens

    def token_masks(self, text: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Make `token_type_ids`, 0 for image and prompt, 1 for the answer.

        Without them the model would, silently, read the prompt causally or even see the answer
        that it is to predict.
        """
        return {"token_type_ids": (text["labels"] != IGNORE_INDEX).long()}
