"""Where images stand in a text: the mark `<image>` of many formats, taken out of it."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from tasks.base import Turn

MARK = "<image>"


def join_texts(texts: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """Join the texts before, between and behind images; return the places of the images.

    White space beside an image at either end of the text belongs to the layout of a model, as does
    that between two images, and is left out.
    """
    kept = [text if text.strip() else "" for text in texts]
    full = [place for place, text in enumerate(kept) if text]
    if full:
        kept[full[0]] = kept[full[0]].lstrip()
        kept[full[-1]] = kept[full[-1]].rstrip()
    return "".join(kept), tuple(accumulate(map(len, kept[:-1])))


def marked(turn: Turn) -> str:
    """Return the text of a turn with a mark where each image stands."""
    ends = [0, *turn.places, len(turn.text)]
    return MARK.join(turn.text[start:end] for start, end in pairwise(ends))


def read_marks(text: str, num_images: int, where: str) -> Turn:
    """Return the user's turn of a text about several images, which may mark their places.

    Args:
        text: with a mark for each image, or with none where all stand before it.
        num_images: of the example.
        where: how an error calls the text.

    Raises:
        ValueError: there are more marks or fewer than images.
    """
    texts = text.split(MARK)
    num_marks = len(texts) - 1
    if num_images == 1 or not num_marks:  # of one image the mark is a text like any other
        return Turn("user", text)
    if num_marks != num_images:
        raise ValueError(
            f"{where} has {num_marks} mark(s) {MARK} and {num_images} images; write one mark for "
            "each image, or none to show all of them before the text."
        )
    joined, places = join_texts(texts)
    return Turn("user", joined, places)
