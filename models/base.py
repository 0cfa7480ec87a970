"""The Family class: how one kind of vision-language model is fed and asked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from PIL import Image

IGNORED = -100  # label of a position without loss

Message = tuple[str, str]  # (role, text); role is "user", "assistant" or "system"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids and pixels, not yet padded.

    Attributes:
        input_ids: image, text and answer tokens.
        num_prefix: how many of them come before the answer.
        num_image_tokens: how many of them stand for the picture.
        pixel_values: (3, height, width), float32.
    """

    input_ids: list[int]
    num_prefix: int
    num_image_tokens: int
    pixel_values: "torch.Tensor"


class Family(ABC):
    """One kind of model: its prompt layout, token arithmetic and module names.

    Args:
        location: folder or Hub id of the checkpoint, whose own tokenizer and processor are used.
        revision: of the Hub repository.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]  # values of config.model_type that it serves
    # Full module names: transformers matches them from the start of the name, and any list
    # replaces its own default, which is what keeps lm_head out.
    unquantized_modules: ClassVar[tuple[str, ...]]
    lora_groups: ClassVar[dict[str, str]]  # group -> regex of the modules that LoRA adapts

    def __init__(self, location: str, revision: str | None = None) -> None:
        self.location = location
        self.revision = revision

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer alone: texts can be counted before the slow imports of the rest."""
        from transformers import AutoTokenizer

        return self._from_pretrained(AutoTokenizer)

    @cached_property
    def processor(self) -> Any:
        """The whole processor."""
        from transformers import AutoProcessor

        return self._from_pretrained(AutoProcessor)

    def _from_pretrained(self, kind: Any) -> Any:
        try:
            return kind.from_pretrained(self.location, revision=self.revision)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.location} has no processor that can be read; beside the weights it needs "
                "tokenizer.json, tokenizer_config.json and processor_config.json (or "
                "preprocessor_config.json)."
            ) from error

    @property
    def lora_target_modules(self) -> str:
        """One regex for all groups; PEFT matches it against the whole module name."""
        return "|".join(f"(?:{pattern})" for pattern in self.lora_groups.values())

    @abstractmethod
    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Token ids before and of the answer (the last turn if the assistant's), image left out.

        Text is text: "<image>" or "<eos>" in it is spelled out, not obeyed.
        """

    @abstractmethod
    def encode(self, image: "Image.Image", messages: Sequence[Message]) -> Encoded:
        """One example for training (the last turn is the assistant's) or generation (it is not)."""

    @abstractmethod
    def collate(self, batch: Sequence[Encoded]) -> dict[str, "torch.Tensor"]:
        """Pad to one length and stack. `labels` is -100 wherever no answer token is."""

    @abstractmethod
    def generate(
        self, model: Any, batch: Sequence[Encoded], max_new_tokens: int, num_beams: int
    ) -> list[str]:
        """Answer each example; greedy, or beam search where `num_beams` is over 1."""
