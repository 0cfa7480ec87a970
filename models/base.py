"""The Family class: how one kind of vision-language model is fed and asked."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from models.encoding import Encoded, Message, Seen, num_images, with_images, with_places
from models.padding import pad_on_the_left
from models.processor_files import (
    lacks_sentencepiece,
    save_settings,
    unreadable,
    without_sentencepiece,
)
from models.settings import Decoding, FamilyOptions

if TYPE_CHECKING:
    import torch
    from PIL import Image

# Linear layers of a decoder layer, under the names of every language model met so far.
ATTENTION = r"layers\.\d+\.self_attn\.(?:[qkvo]|qkv|out)_proj"
FFN = r"layers\.\d+\.(?:mlp\.(?:gate|up|down|gate_up)_proj|fc[12])"


class Family(ABC):
    """One kind of model: its prompt layout, token arithmetic and module names.

    Args:
        location: folder or Hub id of the checkpoint, whose own tokenizer and processor are used.
        revision: of the Hub repository.
        saved: folder with the tokenizer and processor of a training, preferred where given.
        options: what the user said about it.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]  # values of config.model_type that it serves
    aliases: ClassVar[tuple[str, ...]] = ()  # further values of --model_type
    # config.model_type of its authors' own format, which transformers cannot read -> what can be
    foreign_types: ClassVar[dict[str, str]] = {}
    # regex of former names -> what stands there now, beside those of models/names.py
    renames: ClassVar[dict[str, str]] = {}
    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    language_model: str = "model.language_model"  # module that reads and writes text
    # Full module names: transformers matches them from the start of the name, and any list
    # replaces its own default, which is what keeps lm_head out.
    unquantized_modules: tuple[str, ...]
    lora_groups: ClassVar[dict[str, str]] = {"attention": ATTENTION, "ffn": FFN}
    num_turn_tokens: ClassVar[int] = 16  # separators and special tokens of a turn, at most
    takes_template: ClassVar[bool] = False  # whether --chat_template has a meaning
    takes_several_images: ClassVar[bool] = False  # whether an example may have more than one
    image_options: ClassVar[tuple[str, ...]] = ()  # of FamilyOptions, those that it understands

    def __init__(
        self,
        location: str,
        revision: str | None = None,
        *,
        saved: str | None = None,
        options: FamilyOptions | None = None,
    ) -> None:
        self.location = location
        self.revision = revision
        self.saved = saved
        self.options = options or FamilyOptions()
        self.options.check(self.name, self.takes_template, self.image_options)
        self._check()

    def _check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise ValueError where the checkpoint is one of the kind that cannot be used."""

    @cached_property
    def config(self) -> Any:
        """Return the model's config, as transformers reads it."""
        from transformers import AutoConfig, __version__

        try:
            return AutoConfig.from_pretrained(
                self.location,
                revision=self.revision,
                trust_remote_code=self.options.trust_remote_code,
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"transformers {__version__} cannot read config.json of {self.location}, whose "
                "model_type it does not know; update transformers, or take another model."
            ) from error

    @property
    def model_class(self) -> Any:
        """Return the class of transformers that loads the model: the family's, or the one named.

        Raises:
            ValueError: transformers has no such class, or it is of other models, or of models that
                write no text.
        """
        import transformers

        name = self.options.model_class
        if name is None:
            return getattr(transformers, self.auto_class)
        kind: Any = getattr(transformers, name, None)
        if hasattr(kind, "_model_mapping"):  # an Auto class
            loaded = kind._model_mapping.get(type(self.config), None)
        else:
            loaded = kind if getattr(kind, "config_class", None) is type(self.config) else None
        if loaded is None or not loaded.can_generate():
            raise ValueError(
                f"model_class {name} of transformers {transformers.__version__} is none that loads "
                f"{self.location} (type {self.config.model_type}) to write text; name "
                f"{self.auto_class}, or leave it out."
            )
        return kind

    @cached_property
    def empty_model(self) -> Any:
        """Build the model's layers without weights, in a second or two, for names and shapes."""
        import torch

        kind = self.model_class
        with torch.device("meta"):
            if hasattr(kind, "from_config"):
                trusts = self.options.trust_remote_code
                return kind.from_config(self.config, trust_remote_code=trusts)
            return kind._from_config(self.config)

    @cached_property
    def tokenizer(self) -> Any:
        """Return the tokenizer alone: texts can be counted before the slow imports of the rest."""
        from transformers import AutoTokenizer

        return self._from_pretrained(AutoTokenizer)

    @cached_property
    def image_processor(self) -> Any:
        """Return what turns an image into pixels, on Pillow: torchvision is not needed."""
        from transformers import AutoImageProcessor

        from models.pixels import quickened

        # by the config, where the processor's own name is none: early revisions of Qwen2.5-VL
        # call theirs Qwen2_5_VLImageProcessor
        return quickened(
            self._from_pretrained(AutoImageProcessor, config=self.config, backend="pil")
        )

    def _from_pretrained(self, kind: Any, **arguments: Any) -> Any:
        place = {"revision": self.revision} if self.saved is None else {}
        try:
            return kind.from_pretrained(
                self.saved or self.location,
                trust_remote_code=self.options.trust_remote_code,
                **place,
                **arguments,
            )
        except (ImportError, OSError, ValueError) as error:
            if lacks_sentencepiece(self.saved or self.location, self.revision):
                raise without_sentencepiece(self.location) from error
            raise unreadable(self.saved or self.location, error) from error

    def save(self, folder: str) -> None:
        """Write what turns images and text into tokens, so that AutoProcessor loads the folder."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        place, revision = (self.saved, None) if self.saved else (self.location, self.revision)
        save_settings(Path(folder), place, revision, self.config, self.image_processor)

    def check_dimensions(self, width: int, height: int) -> None:  # noqa: B027
        """Raise ValueError where an image of this shape cannot be shown; any can by default."""

    def is_unused(self, layer: str) -> bool:
        """Return True where nothing of a layer, by its full name, reaches the output.

        So it is with the head that pools a SigLIP tower's features into one.
        """
        return re.match(r"model\.vision_tower\.(?:vision_model\.)?head\.", layer) is not None

    @property
    def num_layout_tokens(self) -> int:
        """Count the tokens of a chat format's layout, which no text budget was made for."""
        return 0

    @abstractmethod
    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Return the token ids of a conversation and whether each is learned.

        IMAGE_PLACEHOLDER stands where each image goes.

        The assistant's turns and the token that ends each are learned, nothing else. Without an
        assistant's turn at the end it is what the model is asked. Text is text: "<image>" or
        "<eos>" in it is spelled out, not obeyed.
        """

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count the text tokens of each conversation, as `tokenize` makes them, many at once."""
        return [len(self.tokenize(m)[0]) - num_images(m) for m in conversations]

    @abstractmethod
    def process_image(self, image: "Image.Image") -> Seen:
        """Return the pixels of an image by the model's names, and the ids that stand for it."""

    def count_image_tokens(self, width: int, height: int) -> int:
        """Count the tokens of an image of this shape; any shape has as many unless overridden."""
        return self._num_image_tokens

    def count_all_image_tokens(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Count the tokens of the images of an example by their (width, height)."""
        return sum(self.count_image_tokens(*size) for size in sizes)

    @cached_property
    def _num_image_tokens(self) -> int:
        from PIL import Image

        return len(self.process_image(Image.new("RGB", (640, 480)))[1])

    def encode(self, image: "Image.Image", messages: Sequence[Message]) -> Encoded:
        """Encode an example to train on (an answer is last) or to ask; never truncates."""
        return self.encode_all([image], [messages])[0]

    def encode_all(
        self, images: Sequence["Image.Image"], conversations: Sequence[Sequence[Message]]
    ) -> list[Encoded]:
        """Encode several conversations on the same images, which share their pixels."""
        (seen,) = self.prepare([images])
        return self.put_together(seen, conversations)

    def prepare(self, shown: Sequence[Sequence["Image.Image"]]) -> list[Any]:
        """Make of the images of each example what `put_together` takes; threads may call this."""
        from models.pixels import as_taken

        processor = self.image_processor
        taken = ([as_taken(image, processor) for image in images] for images in shown)
        return list(map(self.process_images, taken))

    def put_together(self, seen: Any, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Put the tokens of prepared images into the conversations on them."""
        conversations = [with_places(messages, len(seen)) for messages in conversations]
        return [with_images(*self.tokenize(messages), seen) for messages in conversations]

    def process_images(self, images: Sequence["Image.Image"]) -> Sequence[Seen]:
        """Return the pixels and the ids of each image of an example."""
        return [self.process_image(image) for image in images]

    def collate(self, batch: Sequence[Encoded]) -> dict[str, "torch.Tensor"]:
        """Make a batch of `B` examples: what `pad_on_the_left`, `token_masks`, `stack` give."""
        text = pad_on_the_left(batch, self.padding_id)
        pixels = [entry for encoded in batch for entry in encoded.all_pixels]
        return text | self.token_masks(text) | self.stack(pixels)

    def token_masks(self, text: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Make further (B, L) tensors for the model, from the padded ones; none by default."""
        return {}

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join the pixels of the images of `B` examples along a new first dimension."""
        import torch

        return {name: torch.stack([entry[name] for entry in pixels]) for name in pixels[0]}

    def render_image(self, encoded: Encoded) -> "Image.Image":
        """Draw the image as the model gets it, normalisation undone; of tiles the first."""
        from models.pixels import drawn

        return drawn(encoded.pixels["pixel_values"], self.image_processor)

    @property
    def end_ids(self) -> list[int]:
        """Return the tokens at which an answer ends; training writes the first of them."""
        return [self.tokenizer.eos_token_id]

    @property
    def padding_id(self) -> int:
        """Return the token of positions that are not attended to."""
        padding = self.tokenizer.pad_token_id
        return self.end_ids[0] if padding is None else int(padding)

    def generate(self, model: Any, batch: Sequence[Encoded], decoding: Decoding) -> list[str]:
        """Answer each example; those with the same pixels see them once."""
        return self.texts(self.answer_ids(model, batch, decoding))

    def answer_ids(
        self, model: Any, batch: Sequence[Encoded], decoding: Decoding
    ) -> "torch.Tensor":
        """Generate the answers of `B` examples: (B, N) token ids, padded behind the end."""
        from models.generation import generate_ids
        from models.shared_images import share_images

        inputs = share_images(model, batch, self.collate(batch), self.stack)
        return generate_ids(model, inputs, decoding)

    def texts(self, ids: "torch.Tensor") -> list[str]:
        """Decode generated answers, (B, N), without special tokens."""
        return list(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
