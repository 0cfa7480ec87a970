"""Tools of the probes: an adapter for a while, logits, gradients, gaps."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from finetuning.training.lora import add_lora
from finetuning.training.loss import answer_logits
from finetuning.training.recipe import Recipe
from models.encoding import IGNORE_INDEX, Encoded, Illustrated, Message
from models.loading import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LORA_LOG = logging.getLogger("finetuning.training.lora")
_RECIPE = Recipe(lora_rank=4, lora_alpha=8, lora_dropout=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """An image or several, and what was said about them; the last turn is the assistant's."""

    image: Image.Image
    messages: Sequence[Message]
    further_images: Sequence[Image.Image] = ()


@contextmanager
def quiet_lora() -> Iterator[None]:
    """Say nothing of the layers inside the block: the lines would hide what was found."""
    _LORA_LOG.disabled = True
    try:
        yield
    finally:
        _LORA_LOG.disabled = False


@contextmanager
def new_adapter(loaded: LoadedModel, drawn: bool = False) -> Iterator[LoadedModel]:
    """Make a small new adapter; `drawn` gives it an effect, which a new one does not have."""
    with quiet_lora():
        model = add_lora(loaded.model, loaded.family, _RECIPE)
    try:
        if drawn:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter, std=0.02)
        yield replace(loaded, model=model.eval())
    finally:
        model.unload().eval()


def encode_to_train(loaded: LoadedModel, conversation: Conversation) -> Encoded:
    """Encode a conversation with its answer."""
    return _encode(loaded, conversation, conversation.messages)


def encode_to_ask(loaded: LoadedModel, conversation: Conversation) -> Encoded:
    """Encode a conversation without its answer."""
    return _encode(loaded, conversation, conversation.messages[:-1])


def _encode(
    loaded: LoadedModel, conversation: Conversation, messages: Sequence[Message]
) -> Encoded:
    images = [conversation.image, *conversation.further_images]
    return loaded.family.encode_all(images, [messages])[0]


def lengthened(conversation: Conversation) -> Conversation:
    """Return the same with its last question said three times."""
    *before, (role, text), answer = conversation.messages
    long = " ".join([text] * 3)
    long = Illustrated(long, text.places) if isinstance(text, Illustrated) else long
    return replace(conversation, messages=[*before, (role, long), answer])


def logits_of(loaded: LoadedModel, examples: Sequence[Encoded]) -> Tensor:
    """Compute the (n, vocabulary) logits that predict the learned tokens, row after row."""
    return batch_logits(loaded, loaded.family.collate(examples))


def batch_logits(loaded: LoadedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits of the learned positions of a batch, (P, V)."""
    inputs = on_device(loaded, batch)
    is_target = F.pad(inputs.pop("labels")[:, 1:], (0, 1), value=IGNORE_INDEX) != IGNORE_INDEX
    with torch.no_grad():
        return answer_logits(loaded.model, inputs, is_target).float()


def on_device(loaded: LoadedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move a batch to the model's device."""
    return {name: tensor.to(loaded.model.device) for name, tensor in batch.items()}


def relative_gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, in units of the spread."""
    return float((found - expected).abs().max() / expected.std())


def pad_on_the_right(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the rows of every tensor of tokens until each begins with its first token."""
    starts = batch["attention_mask"].argmax(dim=1).tolist()
    return {
        name: torch.stack([row.roll(-start) for row, start in zip(tensor, starts, strict=True)])
        if tensor.shape == batch["input_ids"].shape
        else tensor
        for name, tensor in batch.items()
    }


def gradient_of(model: "PreTrainedModel", loss: Tensor) -> Tensor:
    """Return the gradients of all that trains, joined to one vector; 0 where none arrives."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def count_image_tokens(loaded: LoadedModel, encoded: Encoded) -> tuple[int, int]:
    """Count the tokens that an image's features replace, and the vectors that the model makes."""
    if not hasattr(loaded.model, "get_image_features"):  # remote code: its own check must do
        return encoded.num_image_tokens, encoded.num_image_tokens
    pixels = on_device(loaded, loaded.family.stack(encoded.all_pixels))
    with torch.no_grad():
        features = loaded.model.get_image_features(**pixels).pooler_output
    num_features = sum(part.shape[:-1].numel() for part in features)
    return encoded.input_ids.count(loaded.model.config.image_token_id), num_features
