"""Token F1 against arithmetic by hand, after the rules of SQuAD's script."""

import pytest

from tasks.metrics.token_f1 import token_f1


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("the red house", ["A red house!"], 1.0),  # articles and punctuation do not count
        ("red", ["red house"], 2 / 3),  # precision 1, recall 1/2
        ("red red", ["red"], 2 / 3),  # a token counts as often as both have it
        ("big red house", ["red car"], 2 / 5),  # precision 1/3, recall 1/2
        ("blue", ["red", "dark blue"], 2 / 3),  # the best of the references
        ("", ["red"], 0.0),
        ("the", ["red"], 0.0),  # nothing is left of it
        ("it's", ["its"], 1.0),  # punctuation goes without a space
    ],
)
def test_token_f1(prediction: str, references: list[str], expected: float) -> None:
    assert token_f1(prediction, references) == pytest.approx(expected)
