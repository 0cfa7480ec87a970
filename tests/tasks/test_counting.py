"""The number that a text names."""

import pytest

from tasks.counting import read_count


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("There are 12 people.", 12),
        ("three people and 2 dogs", 3),
        ("2 dogs and three people", 2),
        ("Nobody is there.", 0),
        ("No, there are four.", 4),
        ("There are no people.", 0),
        ("TWENTY", 20),
        ("about 2,5", 2.5),
        ("1,200 people", 1200),
        ("There is no one.", 0),
        ("No-one, or one of them", 1),
        ("many", None),
        ("someone", None),  # "one" inside a word
        ("frame_7b", None),
        ("thirty-two of them", 32),
        ("Twenty two.", 22),
        ("two hundred", 200),
        ("one hundred and five people", 105),
        ("a hundred", 100),
        ("two thousand three hundred and forty-five", 2345),
        ("twenty-five thousand", 25_000),
        ("one hundred thousand", 100_000),
        ("nineteen hundred", 1900),
        ("a dozen eggs", 12),
        ("three dozen", 36),
        ("3 dozen", 36),
        ("2 hundred", 200),
        ("five, six or seven", 5),
        ("one and two", 1),
        ("ten to twelve", 10),
        ("hundreds of people", None),
        ("a", None),
        ("and five", 5),
        ("\N{MINUS SIGN}5 degrees", -5),
        ("9" * 400, None),  # beyond the 309 digits of the largest float
        ("9" * 308 + " thousand", None),
    ],
)
def test_the_first_number_counts(text: str, number: float | None) -> None:
    assert read_count(text) == number
