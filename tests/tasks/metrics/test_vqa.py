"""VQA accuracy: worked values of the official rule, and a slow implementation of it."""

import re
from random import Random

import pytest

from tasks.metrics.vqa import CONTRACTIONS, normalize, plain_accuracy, vqa_accuracy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e-mail", "e mail"),
        ("e-mail - inbox", "email inbox"),
        ("2,400", "2400"),
        ("3,4-y", "34y"),
        ("$7.50 (total)", "$7.50 total"),
        ("9:45", "9:45"),
        ("vol. 3", "vol 3"),
        ("b_c/d", "b c d"),
        ("salt, pepper", "salt pepper"),
    ],
)
def test_normalize_gives_the_worked_values(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize("mark", ';/[]"{}()=+\\_-><@`,?!')
def test_each_listed_mark_becomes_a_space_inside_a_word(mark: str) -> None:
    assert normalize(f"x{mark}y") == "x y"


@pytest.mark.parametrize("mark", ';/[]"{}()=+\\_-><@`,?!')
def test_each_listed_mark_is_deleted_where_it_touches_a_space_anywhere(mark: str) -> None:
    assert normalize(f"x{mark}y z{mark} w") == "xy z w"
    assert normalize(f"x{mark}y {mark}z") == "xy z"


def test_a_mark_touching_a_space_does_not_delete_the_other_marks() -> None:
    assert normalize("x-y, z_w") == "x y z w"


def test_one_digit_comma_digit_deletes_every_mark() -> None:
    assert normalize("x-y/z 1,000") == "xyz 1000"


def test_digit_comma_digit_means_ascii_digits() -> None:
    assert normalize("x-\u0663,\u0664") == "x \u0663 \u0664"


@pytest.mark.parametrize(
    "text", [":", "'", "$", "%", "&", "*", "#", "|", "~", "^", "é", "\uff0c", "\u2013"]
)
def test_other_characters_are_left_alone(text: str) -> None:
    assert normalize(f"x{text}y") == f"x{text}y"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4.", "4"), ("3.5.", "3.5"), ("u.s.", "us"), (".5", ".5"), ("x.5", "x.5")],
)
def test_a_period_stays_only_before_a_digit(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_only_the_first_32_periods_go() -> None:
    assert normalize("x" + "." * 40) == "x" + "." * 8


@pytest.mark.parametrize(
    ("word", "digits"),
    [("none", "0")]
    + [
        (word, str(value))
        for value, word in enumerate(
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        )
    ],
)
def test_number_words_become_digits(word: str, digits: str) -> None:
    assert normalize(word.upper()) == digits


def test_eleven_stays_a_word() -> None:
    assert normalize("eleven") == "eleven"


def test_articles_go_and_white_space_becomes_one_space() -> None:
    assert normalize("The cat\u00a0 and an  owl on A mat") == "cat and owl on mat"


def test_punctuation_is_replaced_before_articles_are_dropped() -> None:
    assert normalize("a-one") == "1"


def test_the_contraction_table_has_the_official_120_entries() -> None:
    assert len(CONTRACTIONS) == 120


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dont", "don't"),
        ("aint", "ain't"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("mightve", "might've"),
        ("notve", "not've"),
        ("howd", "how'd"),
        ("hed've", "he'd've"),
        ("he'dve", "he'd've"),
        ("somebodyll", "somebody'll"),
        ("therere", "there're"),
        ("whats", "what's"),
        ("let's", "let's"),
        ("she's", "she's"),
        ("maam", "ma'am"),
        ("oclock", "o'clock"),
        ("twas", "'twas"),
        ("yall", "y'all"),
        ("yall'll", "y'all'll"),
        ("y'allll", "y'all'll"),
        ("yall'd've", "y'all'd've"),
        ("y'all'dve", "y'all'd've"),
        ("ow's'at", "'ow's'at"),
        ("'ows'at", "'ow's'at"),
        ("'ow'sat", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),  # the table says "Im", the text is lower-cased before
        ("Idve", "idve"),
        ("its", "its"),
        ("ill", "ill"),
        ("id", "id"),
        ("were", "were"),
        ("shes", "shes"),
        ("couldntve", "couldntve"),
    ],
)
def test_contractions_get_their_apostrophe_only_where_listed(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("equal", "expected"),
    # 1 equal: that one left out sees 0, the nine others see 1: 9 * 1/3 / 10 = 0.3
    # 2: two see 1, eight see 2: (2 * 1/3 + 8 * 2/3) / 10 = 0.6
    # 3: three see 2, seven see 3: (3 * 2/3 + 7 * 1) / 10 = 0.9
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (5, 1.0), (9, 1.0), (10, 1.0)],
)
def test_accuracy_follows_from_how_many_of_ten_answers_agree(equal: int, expected: float) -> None:
    answers = ["cat"] * equal + [f"other {number}" for number in range(10 - equal)]
    assert vqa_accuracy("cat", answers) == expected


def test_accuracy_does_not_depend_on_where_the_equal_answers_stand() -> None:
    assert vqa_accuracy("cat", ["dog", "cat"] * 3 + ["dog"] * 4) == 0.9


def test_identical_answers_are_compared_with_case() -> None:
    assert vqa_accuracy("Cat", ["cat"] * 10) == 0.0


def test_identical_answers_are_compared_with_articles() -> None:
    assert vqa_accuracy("cat", ["The cat"] * 10) == 0.0
    assert vqa_accuracy("The cat", ["The cat"] * 10) == 1.0


def test_differing_answers_are_normalised_on_both_sides() -> None:
    assert vqa_accuracy("A CAT.", ["The cat"] * 9 + ["dog"]) == 1.0


def test_answers_that_only_outer_white_space_tells_apart_are_identical() -> None:
    assert vqa_accuracy("Cat", ["cat"] * 9 + [" cat\n"]) == 0.0


def test_answers_that_only_case_tells_apart_are_normalised() -> None:
    assert vqa_accuracy("CAT", ["cat"] * 9 + ["Cat"]) == 1.0


def test_newline_and_tab_count_as_spaces_before_identical_answers_are_compared() -> None:
    assert vqa_accuracy("\tred\ncar ", ["red\tcar"] * 10) == 1.0


def test_newline_counts_as_space_in_the_punctuation_rule() -> None:
    # As a space it makes the hyphens go; as a newline it would make them spaces.
    assert vqa_accuracy("x-y-\nz", ["xy z"] * 9 + ["w"]) == 1.0


def test_leave_one_out_holds_for_other_numbers_of_answers() -> None:
    # 3 answers, 2 equal: the two see 1 other, the third sees 2: (1/3 + 1/3 + 2/3) / 3
    assert vqa_accuracy("cat", ["cat", "cat", "dog"]) == pytest.approx(4 / 9)
    assert vqa_accuracy("cat", ["cat"]) == 0.0  # left out, nothing remains to agree with


def test_identical_answers_can_be_normalised_against_the_rule() -> None:
    assert vqa_accuracy("The Cat", ["cat"] * 10) == 0
    assert vqa_accuracy("The Cat", ["cat"] * 10, always_normalize=True) == 1


@pytest.mark.parametrize(("equal", "expected"), [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (9, 1)])
def test_the_plain_formula_leaves_no_answer_out(equal: int, expected: float) -> None:
    answers = ["Yes"] * equal + ["no"] * (10 - equal)
    assert plain_accuracy("yes", answers) == pytest.approx(expected)


def test_no_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one human answer per question, got 0"):
        vqa_accuracy("cat", [])


def slow_normalize(text: str) -> str:
    """N(x) character by character."""
    deletes_all = bool(re.search("[0-9],[0-9]", text))
    out = ""
    for character in text:
        if character not in ';/[]"{}()=+\\_-><@`,?!':
            out += character
        elif not (deletes_all or character + " " in text or " " + character in text):
            out += " "
    kept = ""
    periods = 0
    for position, character in enumerate(out):
        if character == "." and out[position + 1 : position + 2] not in tuple("0123456789"):
            periods += 1
            kept += "." if periods > 32 else ""
        else:
            kept += character
    numbers = ["zero", "one", "two", "three", "four", "five"]
    words = [str(numbers.index(w)) if w in numbers else w for w in kept.lower().split()]
    words = ["0" if word == "none" else word for word in words if word not in ("a", "an", "the")]
    contractions = {"dont": "don't", "whats": "what's", "youre": "you're"}
    return " ".join(contractions.get(word, word) for word in words)


def slow_accuracy(prediction: str, answers: list[str]) -> float:
    """Leave one out by position, literally."""

    def clean(text: str) -> str:
        return text.replace("\n", " ").replace("\t", " ").strip()

    truths, guess = [clean(answer) for answer in answers], clean(prediction)
    if any(truth != truths[0] for truth in truths):
        truths, guess = [slow_normalize(truth) for truth in truths], slow_normalize(guess)
    accuracies = []
    for left_out in range(len(truths)):
        others = [truth for position, truth in enumerate(truths) if position != left_out]
        accuracies.append(min(1.0, sum(truth == guess for truth in others) / 3))
    return sum(accuracies) / len(accuracies)


def test_random_questions_score_as_the_rule_read_literally() -> None:
    random = Random(0)
    pieces = [*'-,./_!?"', ". ", ", ", " ", " ", "\n", "\t", "1", "2", "1,0", "one", "none", "a"]
    pieces += ["The ", "cat", "Cat", "dont", " dont ", " youre ", "whats", "'", ":", "." * 20]
    scores = []
    for _ in range(3000):
        pool = ["".join(random.choices(pieces, k=random.randint(0, 5))) for _ in range(3)]
        answers = random.choices(pool[: random.randint(1, 3)], k=random.choice([10, 10, 10, 3]))
        prediction = random.choice([*pool, pool[0].upper(), f" {pool[1]}"])
        assert slow_normalize(prediction) == normalize(prediction)
        scores.append(vqa_accuracy(prediction, answers))
        assert scores[-1] == pytest.approx(slow_accuracy(prediction, answers), abs=1e-12)
    assert {0.0, 0.3, 0.6, 0.9, 1.0} <= set(scores)  # the data reaches every step of the scale
