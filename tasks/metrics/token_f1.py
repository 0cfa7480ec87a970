"""Token F1 of short answers, by the rule of SQuAD: https://arxiv.org/abs/1606.05250.

Both texts are lower-cased, ASCII punctuation and the articles a, an and the are dropped, and the
rest is split at white space, as in the evaluation script of SQuAD 1.1.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Score one prediction by the F1 of its tokens, 0 to 1, with the best of the references."""
    return max(_f1(_tokens(prediction), _tokens(reference)) for reference in references)


def _f1(predicted: Sequence[str], expected: Sequence[str]) -> float:
    common = (Counter(predicted) & Counter(expected)).total()
    return 2 * common / (len(predicted) + len(expected)) if common else 0.0


def _tokens(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()
