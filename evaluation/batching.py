"""Batches of like length, in which questions on one image stand together."""

from collections.abc import Hashable, Sequence
from typing import Any

MOST = 256  # twice as many answer little faster, and are lost together where a run is stopped


def make_batches(
    lengths: Sequence[int], images: Sequence[Hashable], batch_size: int
) -> list[list[int]]:
    """Share examples out to batches, the longest first.

    Questions on one image are placed together, by the longest of them.

    Args:
        lengths: tokens of each example.
        images: their images; equal ones are one image.
        batch_size: most examples of a batch.

    Returns:
        the places of the examples of each batch.
    """
    longest: dict[Hashable, int] = {}
    first: dict[Hashable, int] = {}
    for place, (length, image) in enumerate(zip(lengths, images, strict=True)):
        longest[image] = max(length, longest.get(image, 0))
        first.setdefault(image, place)
    order = sorted(
        range(len(lengths)),
        key=lambda i: (-longest[images[i]], first[images[i]], -lengths[i], i),
    )
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def choose_batch_size(model: Any, length: int, num_beams: int) -> int:
    """Choose how many examples to answer at once: a power of two that memory bears.

    On a GPU half of its free memory is planned with, on a CPU an eighth of the machine's, whatever
    of it is free: the same command makes the same batches there.

    Args:
        model: answers; its config and device count.
        length: tokens of the longest example, its answer included.
        num_beams: sequences of each.
    """
    if model.device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(
            model.device
        )
        memory = (torch.cuda.mem_get_info(model.device)[0] + unused) // 2
    else:
        import psutil

        memory = psutil.virtual_memory().total // 8
    config = model.config.get_text_config()
    fits = memory // (num_beams * bytes_of_example(config, length, model.dtype.itemsize))
    return min(MOST, 1 << max(0, fits.bit_length() - 1))


def bytes_of_example(config: Any, length: int, itemsize: int) -> int:
    """Estimate the memory that answering an example takes beside the weights.

    Keys and values of each layer; the widest of what one layer computes (its input and output,
    queries, keys, values and the attended, both halves of a gated feed-forward and their product,
    scores and mask of attention in fp32); the logits of one position in fp32, twice.

    Args:
        config: of the language model.
        length: tokens of the example, its answer included.
        itemsize: bytes of a number.
    """
    hidden = config.hidden_size
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    cached = 2 * (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * hidden)
    computed = 3 * hidden + 2 * heads * head_dim + cached + 3 * inner
    kept = config.num_hidden_layers * cached
    scores = 4 * length * (heads + 1)
    return int(length * ((kept + computed) * itemsize + scores) + 8 * config.vocab_size)
