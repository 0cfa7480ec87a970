"""Which of an example's accepted answers is trained on."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Literal

AnswerSampling = Literal["published", "majority", "first"]


def choose_answer(
    references: Sequence[str],
    example_id: int | str,
    epoch: int,
    seed: int,
    sampling: AnswerSampling,
) -> str:
    """Return one of the references: a pure function of (seed, example id, epoch).

    `published` walks through the references in an order shuffled anew each time all were seen, as
    the PaliGemma transfers do ("choice_no_replacement"); `majority` takes the most frequent one,
    the earliest of equals; `first` the first.
    """
    if sampling == "first":
        return references[0].strip()
    if sampling == "majority":
        return Counter(references).most_common(1)[0][0].strip()
    pass_number, position = divmod(epoch, len(references))
    order = list(range(len(references)))
    Random(f"{seed}/{example_id}/{pass_number}").shuffle(order)
    return references[order[position]].strip()
