"""The number that a text names, in digits or in English words."""

import re
from math import isfinite

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: value for value, word in enumerate(_UNITS)}
_SMALL |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_GROUPS = {"thousand": 1000, "million": 1_000_000, "dozen": 12}
_NOBODY = {"no", "none", "nobody"}
_NUMBER = re.compile(r"(?<![\w.,-])-?\d+(?:[.,]\d+)?")
_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d)")
_NO_ONE = re.compile(r"\bno[ -]one\b", re.I)
_TOKEN = re.compile(r"[^\W\d_]+|\S")


def read_count(text: str) -> float | None:
    """Read the first number of a text, in digits or in English words.

    It is None where there is none, or one of so many digits that no finite float holds it.
    "thirty-two", "two hundred and five" and "3 dozen" are read whole. "No" and the like are a
    zero where there is no other number ("No, 3 people" says 3).
    """
    text = _NO_ONE.sub("nobody", text.replace("\N{MINUS SIGN}", "-"))
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    digits = _NUMBER.search(text)
    words = [(match.start(), match[0].lower()) for match in _TOKEN.finditer(text)]
    starts = (index for index, _ in enumerate(words) if _written(words, index) is not None)
    first = next(starts, None)
    if digits and (first is None or digits.start() < words[first][0]):
        value = float(digits[0].replace(",", "."))
        behind = re.match(r"[\s-]*([^\W\d_]+)", text[digits.end() :])
        scale = {**_GROUPS, "hundred": 100}.get(behind[1].lower(), 1) if behind else 1
        return value * scale if isfinite(value * scale) else None
    if first is not None:
        return _written(words, first)
    return 0.0 if any(word in _NOBODY for _, word in words) else None


def _written(words: list[tuple[int, str]], start: int) -> float | None:
    """Return the number whose words begin at an index, as far as they go; None where none does.

    `total` holds what thousands and dozens have closed, `group` what is being read: hundreds,
    then tens, then a unit, each once.
    """
    total, group, room = 0, 0, 1000
    has_any = False
    for index in range(start, len(words)):
        word = words[index][1]
        next_word = words[index + 1][1] if index + 1 < len(words) else ""
        if word in _SMALL and _SMALL[word] < room and not (has_any and word == "zero"):
            group += _SMALL[word]
            room = 10 if _SMALL[word] >= 20 else 0
        elif word == "hundred" and has_any and 0 < group < 100:
            group, room = 100 * group, 100
        elif word in _GROUPS and has_any and group:
            total, group, room = total + _GROUPS[word] * group, 0, 1000
        elif word in ("a", "an") and not has_any and next_word in ("hundred", *_GROUPS):
            group = 1
        elif not (has_any and word in ("-", "and") and _goes_on(next_word, room)):
            break
        has_any = True
    return float(total + group) if has_any else None


def _goes_on(word: str, room: int) -> bool:
    """Return True where a word behind `and` or a hyphen is a part of the number before it."""
    return word in (*_GROUPS, "hundred") or 0 < _SMALL.get(word, 0) < room
