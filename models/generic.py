"""Any other image-text-to-text model that has a chat template.

What stands for an image is asked of the checkpoint's own processor, and where its language model
lies of the model itself. `palitune doctor` tells whether that was right for the model at hand.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from models.chat import ChatFamily
from models.encoding import Encoded, Message, with_images, with_places
from models.text_tokens import encode_text

if TYPE_CHECKING:
    import torch
    from PIL import Image

_TEXT_INPUTS = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}
_OFFSETS = "text_replacement_offsets"


class Generic(ChatFamily):
    """A model without a family file: its own chat template, processor and module names count."""

    name = "generic"
    model_types = ()
    chat_template = ""

    def _check(self) -> None:
        super()._check()
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        is_remote = self.auto_class in getattr(self.config, "auto_map", {})
        if not is_remote and type(self.config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ValueError(
                f"{self.location} is a model of type '{self.config.model_type}', which "
                f"transformers does not load by {self.auto_class}; take one that reads images "
                "and writes text."
            )
        if self.config.is_encoder_decoder or self.config.get_text_config().is_encoder_decoder:
            raise ValueError(
                f"{self.location} ({self.config.model_type}) has an encoder-decoder language "
                "model, and only decoders can be used; take another model."
            )
        if not self.template:
            raise ValueError(
                f"{self.location} ({self.config.model_type}) has no chat template, and none is "
                "known for its type; give one by --chat_template."
            )

    @cached_property
    def language_model(self) -> str:  # type: ignore[override]
        """Return the module in which token ids become vectors."""
        embeddings = self.empty_model.get_input_embeddings()
        names = {module: name for name, module in self.empty_model.named_modules()}
        return str(names[embeddings].rpartition(".")[0])

    @cached_property
    def unquantized_modules(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the modules beside the language model, on each level down to it."""
        path = self.language_model.split(".")
        return tuple(
            ".".join([*path[:depth], name])
            for depth in range(len(path))
            for name, _ in self.empty_model.get_submodule(".".join(path[:depth])).named_children()
            if name != path[depth]
        )

    @cached_property
    def processor(self) -> Any:
        """Return the checkpoint's own; of a class of transformers on Pillow, and for images alone.

        Raises:
            ValueError: it cannot be built, or does not say what stands for an image.
        """
        from transformers import AutoProcessor
        from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

        try:
            if type(self.config) in PROCESSOR_MAPPING:
                processor = self._without_videos(PROCESSOR_MAPPING[type(self.config)])
            else:
                processor = AutoProcessor.from_pretrained(
                    self.location,
                    revision=self.revision,
                    trust_remote_code=self.options.trust_remote_code,
                )
        except (ImportError, OSError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"The processor of {self.location} cannot be built here ({reason.rstrip('.')})."
            ) from error
        if getattr(processor, "image_token", None) is None:
            raise ValueError(
                f"{type(processor).__name__} of {self.location} names no token that stands for an "
                "image; take a model whose processor does."
            )
        return processor

    @cached_property
    def takes_several_images(self) -> bool:  # type: ignore[override]
        """Return True where the processor says which tokens stand for which image."""
        from transformers import ProcessorMixin

        return type(self.processor).replace_image_token is not ProcessorMixin.replace_image_token

    def _without_videos(self, kind: Any) -> Any:
        """A processor of this class; its part for videos would need torchvision."""

        def check(processor: Any, name: str, part: Any) -> None:
            if part is not None:
                kind.check_argument_for_proper_class(processor, name, part)

        still = type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})
        settings, _ = kind.get_processor_dict(self.location, revision=self.revision)
        arguments = {
            name: value
            for name, value in settings.items()
            if name in signature(kind.__init__).parameters
        }
        parts = {"image_processor": super().image_processor, "tokenizer": self.tokenizer}
        processor = still(**arguments | dict.fromkeys(kind.get_attributes()) | parts)
        processor.__class__ = kind  # made: the library's own can be pickled for a worker
        return processor

    @property
    def image_processor(self) -> Any:
        """Return the processor's own."""
        return self.processor.image_processor

    @cached_property
    def image_token(self) -> str:
        """Return the text that the template writes once where the image goes."""
        return str(self.processor.image_token)

    @cached_property
    def image_token_id(self) -> int:
        """Return the same as a token; what it becomes may hold others."""
        return int(self.tokenizer.convert_tokens_to_ids(self.image_token))

    def prepare(self, shown: Sequence[Sequence["Image.Image"]]) -> list[list["Image.Image"]]:
        """Leave the images to the processor, which tokenises: threads cannot share a tokenizer."""
        from models.pixels import as_taken

        return [[as_taken(image, self.image_processor) for image in images] for images in shown]

    def put_together(
        self, seen: Sequence["Image.Image"], conversations: Sequence[Sequence[Message]]
    ) -> list[Encoded]:
        """Encode several; an image's text is tokenised where it stands, as the processor does.

        Gemma 3 has line breaks around its image, which are one token with those of the layout.
        """
        inputs = self._process(seen)
        ids = inputs.pop("input_ids")[0].tolist()
        conversations = [with_places(messages, len(seen)) for messages in conversations]
        if _OFFSETS not in inputs:
            return [with_images(*self.tokenize(m), [(inputs, ids)]) for m in conversations]
        texts = [offset["replacement"] for offset in inputs.pop(_OFFSETS)[0]]
        image_ids = [
            self._without_edges(encode_text(self.tokenizer, text, split_special_tokens=False))
            for text in texts
        ]
        return [self._around(inputs, image_ids, *self.lay_out(m, texts)) for m in conversations]

    @staticmethod
    def _around(
        pixels: dict[str, Any],
        image_ids: Sequence[list[int]],
        ids: list[int],
        is_target: list[bool],
    ) -> Encoded:
        """Find the images' tokens among those of their conversation."""
        spans: list[tuple[int, int]] = []
        for wanted in image_ids:
            places = range(spans[-1][1] if spans else 0, len(ids) - len(wanted) + 1)
            start = next(place for place in places if ids[place : place + len(wanted)] == wanted)
            spans.append((start, start + len(wanted)))
        return Encoded(input_ids=ids, is_target=is_target, image_spans=tuple(spans), pixels=pixels)

    def process_image(self, image: "Image.Image") -> tuple[dict[str, "torch.Tensor"], list[int]]:
        """Return the processor's tensors of one image, with their batch dimension, and its ids."""
        inputs = self._process([image])
        ids = inputs.pop("input_ids")[0].tolist()
        return {name: inputs[name] for name in inputs if name != _OFFSETS}, ids

    def _process(self, images: Sequence["Image.Image"]) -> dict[str, Any]:
        """Process the images of one example and the tokens that stand for them."""
        inputs = self.processor(
            images=[list(images)] if len(images) > 1 else list(images),
            text=[self.image_token * len(images)],
            add_special_tokens=False,
            return_tensors="pt",
            **({"return_text_replacement_offsets": True} if self.takes_several_images else {}),
        )
        unknown = set(inputs) - _TEXT_INPUTS - {_OFFSETS} - self._pixel_names
        if unknown:
            raise ValueError(
                f"{type(self.processor).__name__} of {self.location} gives {min(unknown)}, which "
                "belongs to a whole text and not to an image: models of its kind cannot be used."
            )
        return {
            name: value
            for name, value in inputs.items()
            if name not in _TEXT_INPUTS - {"input_ids"}
        }

    @cached_property
    def _pixel_names(self) -> set[str]:
        """Name what an image becomes, as the model names it."""
        from PIL import Image

        return set(self.image_processor(images=[Image.new("RGB", (64, 64))]))

    def _without_edges(self, ids: list[int]) -> list[int]:
        """From the first to the last special token: those are the same in any text."""
        texts = self.tokenizer.convert_ids_to_tokens(ids)
        places = [place for place, text in enumerate(texts) if text in self._special_tokens]
        return ids[places[0] : places[-1] + 1]

    def token_masks(self, text: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Mark the tokens that are an image's, where the processor says that the model asks."""
        import torch

        if not self.processor.return_mm_token_type_ids:
            return {}
        name = "mm_token_type_ids"
        if name not in self.processor.model_input_names:
            name = "token_type_ids"  # of Gemma 3
        kinds = self.processor.create_mm_token_type_ids(text["input_ids"].tolist())
        return {name: torch.tensor(kinds)}

    def stack(self, pixels: Sequence[Mapping[str, "torch.Tensor"]]) -> dict[str, "torch.Tensor"]:
        """Join along the first dimension, the others filled up with zeros to the largest.

        So images of one size, patches in a row, tiles of differing number and images of
        differing size are each joined as their processors do.
        """
        import torch

        def filled(tensor: "torch.Tensor", shape: Sequence[int]) -> "torch.Tensor":
            missing = [want - size for want, size in zip(shape, tensor.shape[1:], strict=True)]
            return torch.nn.functional.pad(tensor, [n for m in reversed(missing) for n in (0, m)])

        joined = {}
        for name in pixels[0]:
            tensors = [entry[name] for entry in pixels]
            shape = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
            joined[name] = torch.cat([filled(tensor, shape) for tensor in tensors])
        return joined

    def render_image(self, encoded: Encoded) -> "Image.Image":
        """Draw the image as the model gets it.

        Raises:
            ValueError: it gets patches in an order that is its own.
        """
        if encoded.pixels["pixel_values"].dim() < 4:
            raise ValueError(
                f"The images of {self.location} cannot be shown: its processor cuts them into "
                "patches in another order."
            )
        return super().render_image(encoded)


class RemoteGeneric(Generic):
    """The same for a checkpoint whose own code registers it as a model of text."""

    name = "generic_remote"
    auto_class = "AutoModelForCausalLM"
