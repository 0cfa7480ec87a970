"""Token ids of texts: of one, and of thousands at once, which is several times as quick."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

_THREADS = "TOKENIZERS_PARALLELISM"  # read at each call
_PROCESS = os.getpid()


def encode_text(tokenizer: Any, text: str, split_special_tokens: bool = True) -> list[int]:
    """Return the ids of a text alone; special tokens in it are spelled out, unless told not to."""
    if tokenizer.is_fast:
        backend = _backend(tokenizer, split_special_tokens)
        return list(backend.encode(text, add_special_tokens=False).ids)
    switches = {"add_special_tokens": False, "split_special_tokens": split_special_tokens}
    return list(tokenizer(text, **switches)["input_ids"])


def encode_texts(tokenizer: Any, texts: Sequence[str], *, split_special_tokens: bool) -> list[Any]:
    """Tokenise texts without special tokens around them; whole, whatever the tokenizer's limits.

    Args:
        tokenizer: of transformers.
        texts: what to tokenise.
        split_special_tokens: spell special tokens in the texts out.

    Returns:
        For each text what has its ids as `ids` and their number as `len`.
    """
    if tokenizer.is_fast:
        backend = _backend(tokenizer, split_special_tokens)
        with _on_all_cores():
            found: list[Any] = backend.encode_batch_fast(texts, add_special_tokens=False)
        return found
    return [_Ids(encode_text(tokenizer, text, split_special_tokens)) for text in texts]


def _backend(tokenizer: Any, split_special_tokens: bool) -> Any:
    """A fast tokenizer without its checks of arguments, which take longer than a short text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # a tokenizer.json may have it, and padding
    backend.no_padding()
    backend.encode_special_tokens = split_special_tokens
    return backend


@contextmanager
def _on_all_cores() -> Iterator[None]:
    """Let a fast tokenizer use threads, but in a forked process, which has none of them."""
    if os.getpid() != _PROCESS:
        yield
        return
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def check_rows(tokenizer: Any, config: Any, place: str) -> None:
    """Verify that the model has a row for each token that a text can become.

    An image's own may have none: the model puts features in its place. How many rows a model with
    code of its own has is not known.

    Args:
        tokenizer: of transformers.
        config: the model's.
        place: folder or Hub id of the model, for the message.

    Raises:
        ValueError: tokens lie beyond the embeddings; says how many and names the last.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is None or not type(config).__module__.startswith("transformers."):
        return
    featured = {
        value
        for name, value in config.to_dict().items()
        if name.startswith(("image_token", "video_token", "boi_token", "eoi_token"))
        and isinstance(value, int)
    }
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    beyond = {t: id_ for t, id_ in vocabulary.items() if id_ >= rows and id_ not in featured}
    if beyond:
        last = max(beyond, key=lambda token: beyond[token])
        raise ValueError(
            f"The tokenizer in use with {place} has tokens beyond the {rows} embeddings of the "
            f"model: {len(beyond)}, {last!r} ({beyond[last]}) last; take both from one model, or "
            "save the model with its embeddings resized to the tokenizer."
        )


class _Ids(list[int]):
    """What a tokenizer without a backend makes of a text."""

    @property
    def ids(self) -> list[int]:
        return self


def count_around(tokenizer: Any, conversations: Iterable[Sequence[str]]) -> list[int]:
    """Count the tokens of conversations in which each text comes with one special token.

    Args:
        tokenizer: of transformers.
        conversations: the texts of each.
    """
    texts = list(conversations)
    encoded = iter(
        encode_texts(tokenizer, [t for turns in texts for t in turns], split_special_tokens=True)
    )
    return [sum(1 + len(next(encoded)) for _ in turns) for turns in texts]


def count_growing(tokenizer: Any, conversations: Sequence[Sequence[str]]) -> list[int | None]:
    """Count the tokens of conversations by their texts up to the end of each part.

    Args:
        tokenizer: of transformers; special tokens in the texts are special.
        conversations: of each such texts, each the beginning of the next.

    Returns:
        The number of tokens of the last; None where there is none, or one is not tokenised as the
        beginning of the next.
    """
    texts = [text for heads in conversations for text in heads]
    encoded = iter(encode_texts(tokenizer, texts, split_special_tokens=False))
    counts: list[int | None] = []
    for heads in conversations:
        found = [next(encoded).ids for _ in heads]
        grows = found and all(whole[: len(ids)] == ids for ids, whole in pairwise(found))
        counts.append(len(found[-1]) if grows else None)
    return counts
