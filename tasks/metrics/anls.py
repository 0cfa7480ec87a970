"""ANLS, the metric of DocVQA, by the rule of the Robust Reading Competition's own script.

Rule and script: https://rrc.cvc.uab.es/?ch=17&com=tasks (portal, DocVQA challenge); the measure was
introduced in https://arxiv.org/abs/1905.13648. Where paper and script differ the script wins:
lengths are those of the raw strings, and a similarity of exactly the threshold counts.
"""

from collections.abc import Sequence

from Levenshtein import distance


def anls(prediction: str, answers: Sequence[str], threshold: float = 0.5) -> float:
    """Score one prediction by its most similar accepted answer, 0 to 1.

    Args:
        prediction: the model's answer.
        answers: every accepted answer of the question.
        threshold: similarities below it score 0; the official value is 0.5.
    """
    _check(answers)
    similarity = 1 - min(_normalized_distance(prediction, answer) for answer in answers)
    return similarity if similarity >= threshold else 0.0


def explain(prediction: str, answers: Sequence[str], threshold: float = 0.5) -> list[str]:
    """Explain the similarity of one prediction, by its nearest answer."""
    _check(answers)
    nearest = min(answers, key=lambda answer: _normalized_distance(prediction, answer))
    edits, length = distance(_prepare(nearest), _prepare(prediction)), _length(prediction, nearest)
    similarity = 1 - _normalized_distance(prediction, nearest)
    counts = "counts" if similarity >= threshold else "is under the threshold and scores 0"
    return [
        f'nearest answer "{nearest}": {edits} edits over {length} characters, similarity '
        f"{similarity:.4g} {counts} (threshold {threshold:g})"
    ]


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is an accepted answer but for case and outer white space."""
    _check(answers)
    target = prediction.lower().strip()
    return float(any(answer.lower().strip() == target for answer in answers))


def _normalized_distance(prediction: str, answer: str) -> float:
    """Levenshtein distance of the prepared strings over the length of the longer raw one."""
    length = _length(prediction, answer)
    return distance(_prepare(answer), _prepare(prediction)) / length if length else 0.0


def _length(prediction: str, answer: str) -> int:
    # Upper case because the script does: some characters ("ß") become two.
    return max(len(answer.upper()), len(prediction.upper()))


def _prepare(text: str) -> str:
    return " ".join(text.lower().split())


def _check(answers: Sequence[str]) -> None:
    if not answers:
        raise ValueError(
            "scoring a question needs at least one accepted answer, got 0; splits whose answers "
            "are withheld can only be predicted."
        )
