"""Generation by the library, with a greedy loop that answers leave as they end."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.utils import MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL

from models.decoder_layers import narrowed
from models.settings import Decoding

# Tensors with a row an example; a row is their last dimension but one, as positions may be several
# to a token.
_BY_ROW = ("attention_mask", "position_ids", "token_type_ids", "mm_token_type_ids")


def generate_ids(model: Any, inputs: Mapping[str, Any], decoding: Decoding) -> torch.Tensor:
    """Generate the answers of `B` examples.

    Args:
        model: generates; also under an adapter.
        inputs: what it reads; labels are left out.
        decoding: the settings.

    Returns:
        (B, N) int64: the new tokens, padded behind the end.
    """
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    is_greedy = not decoding.do_sample and decoding.num_beams == 1
    placed = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
        if name != "labels"
    }
    with torch.no_grad():
        output = model.generate(
            **placed,
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            num_beams=decoding.num_beams,
            do_sample=decoding.do_sample,
            **(sampling if decoding.do_sample else {}),
            **({"custom_generate": answer_greedily} if is_greedy else {}),
        )
    return output[:, inputs["input_ids"].shape[1] :]  # type: ignore[no-any-return]


def answer_greedily(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    **inputs: Any,
) -> torch.Tensor:
    """Take the likeliest token, as the library's own loop; rows that have ended leave the batch.

    The library calls this with all that its loop gets (`custom_generate`).

    Returns:
        (B, L + N) int64: `input_ids` and the new tokens, padded behind the end.
    """
    if not _rows_can_leave(inputs):
        return model._sample(  # type: ignore[no-any-return]
            input_ids, logits_processor, stopping_criteria, generation_config, **inputs
        )
    rows = torch.arange(len(input_ids), device=input_ids.device)
    ended: dict[int, torch.Tensor] = {}
    new_length = None  # the whole prompt is read at first
    while len(rows):
        model_inputs = model.prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=new_length,
            is_first_iteration=new_length is None,
            **inputs,
        )
        with narrowed(model) if new_length is None else nullcontext():
            outputs = model(**model_inputs, return_dict=True)
        new_length = 1
        inputs = model._update_model_kwargs_for_generation(outputs, inputs)
        scores = logits_processor(input_ids, outputs.logits[:, -1].float())
        input_ids = torch.cat([input_ids, scores.argmax(-1, keepdim=True)], dim=1)
        has_ended = stopping_criteria(input_ids, None)
        if not has_ended.any():
            continue
        ended |= zip(rows[has_ended].tolist(), input_ids[has_ended], strict=True)
        stays = (~has_ended).nonzero().squeeze(1)
        rows, input_ids = rows[stays], input_ids[stays]
        if len(rows):
            inputs = _of_rows(inputs, stays)
    padding = generation_config._pad_token_tensor  # None where nothing but the length ends a row
    return torch.nn.utils.rnn.pad_sequence(
        [ended[row] for row in range(len(ended))],
        batch_first=True,
        padding_value=0 if padding is None else int(padding),
    )


def _rows_can_leave(inputs: Mapping[str, Any]) -> bool:
    """Return True where each part of what the model reads is known to be cut by rows."""
    layers = getattr(inputs.get("past_key_values"), "layers", [None])
    tensors = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    read_once = {"inputs_embeds", "batch_num_images", *MULTIMODAL_INPUTS_TO_DROP_OUTSIDE_PREFILL}
    is_cut = {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer}
    return is_cut and tensors <= {*_BY_ROW, *read_once}


def _of_rows(inputs: Mapping[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    """Return what the model reads next of these rows alone; the cache is cut in place."""
    inputs["past_key_values"].batch_select_indices(rows)
    return {
        name: value.index_select(-2, rows) if name in _BY_ROW and value is not None else value
        for name, value in inputs.items()
    }
