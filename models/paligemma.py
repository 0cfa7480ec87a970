r"""PaliGemma 1 and 2: prefix-LM over SigLIP features (Beyer et al. 2024, arXiv:2407.07726).

Layout of one example: `<image> * N  <bos> prompt \n answer <eos>`. Image and prompt attend to
each other in both directions, the answer causally (section 3.2 of the paper); the loss is on the
answer alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from models.base import IGNORED, Encoded, Family, Message

if TYPE_CHECKING:
    import torch
    from PIL import Image


class PaliGemma(Family):
    """Both generations; they differ in the language model (Gemma, Gemma 2), not in the layout."""

    name = "paligemma"
    model_types = ("paligemma",)
    unquantized_modules = ("model.vision_tower", "model.multi_modal_projector", "lm_head")
    lora_groups: ClassVar[dict[str, str]] = {
        "attention": r"model\.language_model\.layers\.\d+\.self_attn\.[qkvo]_proj",
        "ffn": r"model\.language_model\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    }

    @property
    def num_image_tokens(self) -> int:
        """Tokens that stand for a picture; fixed by the checkpoint's picture size."""
        return int(self.processor.image_processor.image_seq_length)

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        r"""Token ids of `<bos> prompt \n` and of `answer <eos>` (empty without an answer)."""
        roles = [role for role, _ in messages]
        if roles not in (["user"], ["user", "assistant"]):
            raise ValueError(
                f"PaliGemma takes one user turn and at most one answer, got turns {roles}; "
                "it has no chat format."
            )
        prefix = [self.tokenizer.bos_token_id, *self._ids(messages[0][1] + "\n")]
        answer = [*self._ids(messages[1][1]), self.tokenizer.eos_token_id] if messages[1:] else []
        return prefix, answer

    def encode(self, image: "Image.Image", messages: Sequence[Message]) -> Encoded:
        """Token ids and pixels of one example; never truncates."""
        prefix, answer = self.tokenize(messages)
        image_tokens = [self.processor.image_token_id] * self.num_image_tokens
        pixels = self.processor.image_processor(images=image, return_tensors="pt")["pixel_values"]
        return Encoded(
            input_ids=image_tokens + prefix + answer,
            num_prefix=len(image_tokens) + len(prefix),
            num_image_tokens=len(image_tokens),
            pixel_values=pixels[0],
        )

    def collate(self, batch: Sequence[Encoded]) -> dict[str, "torch.Tensor"]:
        """Pad `B` examples on the left to `L` tokens, as generation needs it.

        Returns:
            input_ids, attention_mask, token_type_ids (0 prefix, 1 answer), labels: (B, L) int64;
            pixel_values: (B, 3, height, width). Without `token_type_ids` the model would,
            silently, read the prompt causally or even see the answer that it is to predict.
        """
        import torch

        shape = (len(batch), max(len(encoded.input_ids) for encoded in batch))
        input_ids = torch.full(shape, self.tokenizer.pad_token_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        token_type_ids = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED)
        for row, encoded in enumerate(batch):
            start = shape[1] - len(encoded.input_ids)
            ids = torch.tensor(encoded.input_ids)
            input_ids[row, start:] = ids
            attention_mask[row, start:] = 1
            token_type_ids[row, start + encoded.num_prefix :] = 1
            labels[row, start + encoded.num_prefix :] = ids[encoded.num_prefix :]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "labels": labels,
            "pixel_values": torch.stack([encoded.pixel_values for encoded in batch]),
        }

    def generate(
        self, model: Any, batch: Sequence[Encoded], max_new_tokens: int, num_beams: int
    ) -> list[str]:
        """Answer each example; greedy, or beam search where `num_beams` is over 1."""
        import torch

        inputs = {
            name: tensor.to(model.device)
            for name, tensor in self.collate(batch).items()
            if name != "labels"
        }
        with torch.no_grad():
            output = model.generate(
                **inputs, max_new_tokens=max_new_tokens, num_beams=num_beams, do_sample=False
            )
        answers = output[:, inputs["input_ids"].shape[1] :]
        return list(self.tokenizer.batch_decode(answers, skip_special_tokens=True))

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(ids["input_ids"])
