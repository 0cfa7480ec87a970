"""Questions on the same images share what the model sees: its tower runs once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from models.encoding import Encoded

if TYPE_CHECKING:
    from torch import Tensor

Stack = Callable[[Sequence[Mapping[str, "Tensor"]]], dict[str, "Tensor"]]

# Fields of an image tower's output that no language model reads.
_UNREAD = {
    *("last_hidden_state", "hidden_states", "attentions"),
    *("vision_outputs", "qformer_outputs"),
}


def share_images(
    model: Any, batch: Sequence[Encoded], inputs: Mapping[str, "Tensor"], stack: Stack
) -> dict[str, Any]:
    """Put features in the place of pixels, where some of `B` examples have the same images.

    Examples have the same images where their pixels are one object.

    Args:
        model: sees; also under an adapter.
        batch: the examples.
        inputs: what `Family.collate` makes of them.
        stack: the family's own.

    Returns:
        The inputs with `mm_encoder_outputs`, by which the library feeds features to a model; as
        they are where none repeats, or where the model's features cannot be told by image.
    """
    import torch

    places: dict[int, int] = {}
    image_of = [places.setdefault(id(encoded.pixels), len(places)) for encoded in batch]
    if len(places) == len(batch):
        return dict(inputs)
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    see = getattr(whole.base_model, "get_image_features", None)
    if see is None or not _takes_features(whole):
        return dict(inputs)
    distinct = [batch[image_of.index(place)] for place in range(len(places))]
    pixels = stack([entry for encoded in distinct for entry in encoded.all_pixels])
    names = signature(see).parameters.keys() & pixels.keys()
    with torch.no_grad():
        features = see(**{name: pixels[name].to(model.device) for name in names}, return_dict=True)
    if "pixel_values" not in names or not _is_told_by_image(features):
        return dict(inputs)
    token = whole.config.image_token_id
    entries = _entries_of(features.pooler_output, [e.input_ids.count(token) for e in distinct])
    order = [entry for image in image_of for entry in entries[image]]
    features.pooler_output = _chosen(features.pooler_output, order)
    if layers := features.get("deepstack_features"):
        features["deepstack_features"] = [_chosen(layer, order) for layer in layers]
    rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
    return rest | {"mm_encoder_outputs": {"image": features}}


def _takes_features(model: Any) -> bool:
    """Return True where the library's own generation feeds them; BLIP-2 has another that sees."""
    from transformers import GenerationMixin

    takes = "mm_encoder_outputs" in signature(model.forward).parameters
    return takes and type(model).generate is GenerationMixin.generate


def _is_told_by_image(features: Any) -> bool:
    return not set(features) - _UNREAD - {"pooler_output", "deepstack_features"}


def _entries_of(seen: Sequence["Tensor"], num_tokens: Sequence[int]) -> list[list[int]]:
    """Find the entries of each example: an image is one entry or several, one a tile.

    Args:
        seen: features of all images, each entry (tokens, hidden).
        num_tokens: tokens that stand for the images of each example.
    """
    entries: list[list[int]] = [[] for _ in num_tokens]
    example, missing = 0, num_tokens[0]
    for place, entry in enumerate(seen):
        if not missing:
            example += 1
            missing = num_tokens[example]
        entries[example].append(place)
        missing -= len(entry)
    assert example == len(num_tokens) - 1 and not missing
    return entries


def _chosen(seen: Any, order: Sequence[int]) -> Any:
    """Return the entries in another order, each as often as it is named there."""
    return [seen[place] for place in order] if isinstance(seen, list | tuple) else seen[list(order)]
