"""VQA accuracy by the official VQAv2 rule, quirks included.

Source of every rule here: `vqaEvaluation/vqaEval.py` of https://github.com/GT-Vision-Lab/VQA, the
script that https://visualqa.org/evaluation.html describes and the leaderboard runs.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

_PUNCTUATION = frozenset(';/[]"{}()=+\\_-><@`,?!')
_MARKED = re.compile("[" + re.escape("".join(sorted(_PUNCTUATION))) + ".]")
_DIGIT_COMMA_DIGIT = re.compile(r"[0-9],[0-9]")
# The official pattern also has a look-behind, mistyped so that it never has an effect.
_PERIOD = re.compile(r"\.(?![0-9])")
# The official call passes the flag re.UNICODE where re.sub takes a count.
_MAX_PERIODS_REMOVED = 32
NUM_VOTES = 10  # of a question in the official files

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORDS = {"none": "0"} | {word: str(value) for value, word in enumerate(_NUMBERS)}
_ARTICLES = frozenset({"a", "an", "the"})

# (spellings, contraction, words): `@` stands for each of the words in turn.
_CONTRACTION_FAMILIES = (
    (
        "@nt",
        "@n't",
        "ai are ca could did does do had has have is might must need ought sha should was were "
        "wo would",
    ),
    ("@nt've @n'tve", "@n't've", "could had might should would"),
    ("@ve", "@'ve", "could might must not should they we what where who would you I"),
    ("@d", "@'d", "he how it someone something there they where who you"),
    (
        "@d've @'dve",
        "@'d've",
        "he I it she somebody someone something there they we who you",
    ),
    ("@ll", "@'ll", "how it somebody someone something they what who why you"),
    ("@re", "@'re", "there they what why you"),
    ("@s", "@'s", "he how somebody someone that there what when where who why"),
    ("@", "@", "let's she's"),
    ("Im", "I'm", "I"),
    ("maam", "ma'am", "maam"),
    ("oclock", "o'clock", "oclock"),
    ("twas", "'twas", "twas"),
    ("yall", "y'all", "yall"),
    ("yall'll y'allll", "y'all'll", "yall"),
    ("yall'd've y'alld've y'all'dve", "y'all'd've", "yall"),
    ("ow's'at 'ows'at 'ow'sat", "'ow's'at", "ow"),
    ("somebody'd", "somebodyd", "somebody"),  # sic: this one loses its apostrophe
)


def _contractions() -> Iterator[tuple[str, str]]:
    """Expand the families into (spelling, contraction) pairs.

    Entries with a capital I are in the official table and can never match: the text is lower-cased
    before it is looked up.
    """
    for spellings, contraction, words in _CONTRACTION_FAMILIES:
        for word in words.split():
            for spelling in spellings.split():
                yield spelling.replace("@", word), contraction.replace("@", word)


CONTRACTIONS = dict(_contractions())


def vqa_accuracy(
    prediction: str, answers: Sequence[str], *, always_normalize: bool = False
) -> float:
    """Score one prediction against the human answers of its question, 0 to 1.

    Each answer in turn is left out, by its position; the prediction gets min(1, m / 3) for the m
    others that equal it, and the mean of these is the accuracy. Texts are normalised only where
    the answers differ: ten identical answers are compared exactly, case included.

    Args:
        prediction: the model's answer.
        answers: all human answers of the question; the official files have ten.
        always_normalize: normalise identical answers too, which is not the official rule.
    """
    total = len(answers)
    equal = _num_equal(prediction, answers, always_normalize)
    # With an equal answer left out `equal - 1` remain, with any other one all of them.
    thirds = equal * min(3, equal - 1) + (total - equal) * min(3, equal)
    return thirds / (3 * total)


def accuracy_of_accepted(
    prediction: str, answers: Sequence[str], *, always_normalize: bool = False
) -> float:
    """Score one prediction where fewer than ten answers are accepted ones, not votes, 0 to 1.

    Each then stands for ten people who agree; white space is as in predictions.
    """
    votes = tuple(" ".join(answer.split()) for answer in answers)
    votes = votes if len(votes) >= NUM_VOTES else votes * NUM_VOTES
    return vqa_accuracy(prediction, votes, always_normalize=always_normalize)


def plain_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Score by min(1, n / 3) for the n answers that equal the prediction, none left out.

    The formula as papers print it; at 1, 2 and 3 of ten answers it gives more than the official
    rule, which is `vqa_accuracy`.
    """
    return min(1.0, _num_equal(prediction, answers) / 3)


def explain(prediction: str, answers: Sequence[str]) -> list[str]:
    """Explain the accuracy of one prediction: what was compared, and the arithmetic."""
    total, equal = len(answers), _num_equal(prediction, answers)
    if _differ(answers):
        form = _clean_and_normalize(prediction)
        compared = f'the answers differ, so all are normalised: "{form}"'
    else:
        compared = f'the answers are alike, so they are compared exactly: "{_clean(prediction)}"'
    terms = []
    if equal:
        terms.append(f"{equal} * min({equal - 1}, 3) / 3")
    if total > equal:
        terms.append(f"{total - equal} * min({equal}, 3) / 3")
    return [
        compared,
        f"{equal} of {total} answers equal it: ({' + '.join(terms)}) / {total} = "
        f"{100 * vqa_accuracy(prediction, answers):.4g} %",
    ]


def normalize(text: str) -> str:
    """Normalise an answer as the official script does where human answers differ."""
    return _map_words(_strip_punctuation(text))


def _num_equal(prediction: str, answers: Sequence[str], always_normalize: bool = False) -> int:
    """Count the answers that equal the prediction, normalised where they differ."""
    if not answers:
        raise ValueError(
            "VQA accuracy needs at least one human answer per question, got 0 (the official files "
            "have 10)."
        )
    form = _clean_and_normalize if always_normalize or _differ(answers) else _clean
    target = form(prediction)
    return sum(answers.count(answer) for answer in set(answers) if form(answer) == target)


def _differ(answers: Sequence[str]) -> bool:
    distinct = set(answers)  # three or so of ten
    return len(distinct) > 1 and len(set(map(_clean, distinct))) > 1


@lru_cache(maxsize=1 << 18)
def _clean_and_normalize(text: str) -> str:
    return normalize(_clean(text))


@lru_cache(maxsize=1 << 18)
def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _strip_punctuation(text: str) -> str:
    """Delete each punctuation character or turn it into a space, then delete final periods.

    A character is deleted where it touches a space anywhere in the text, or where the text has a
    digit-comma-digit anywhere: one "1,000" makes every listed character go.
    """
    if not _MARKED.search(text):
        return text
    has_thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
    replacements = {
        ord(mark): "" if has_thousands or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _PUNCTUATION.intersection(text)
    }
    return _PERIOD.sub("", text.translate(replacements), count=_MAX_PERIODS_REMOVED)


def _map_words(text: str) -> str:
    """Lower-case; number words to digits; drop articles; put apostrophes in; in this order."""
    words = (_NUMBER_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
