"""ANLS: worked values of the portal's rule, and a slow implementation of it."""

from random import Random

import pytest

from tasks.metrics.anls import anls, exact_match


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("Coca Cola", 1.0),
        ("CocaCola", 8 / 9),  # one insertion over the 9 characters of "Coca Cola"
        ("The Coca", 0.0),  # distance 8 over 9: under the threshold
        ("Cola", 0.0),  # 5 over 9: 4/9 is under the threshold
        ("Cat", 0.0),
    ],
)
def test_anls_gives_the_worked_values(prediction: str, expected: float) -> None:
    answers = ["Coca Cola", "Coca Cola Company"]
    assert anls(prediction, answers) == pytest.approx(expected, abs=1e-12)


def test_a_similarity_of_exactly_one_half_is_kept() -> None:
    assert anls("abcd", ["abxy"]) == 0.5


def test_a_similarity_just_under_one_half_scores_zero() -> None:
    assert anls("abcde", ["abxyz"]) == 0.0  # 2/5


def test_another_threshold_can_be_chosen() -> None:
    assert anls("abcde", ["abxyz"], threshold=0.0) == pytest.approx(0.4)
    assert anls("abcde", ["abcdx"], threshold=0.9) == 0.0


def test_case_and_runs_of_white_space_do_not_count() -> None:
    assert anls("  COCA \n\t cola ", ["Coca  Cola"]) == 1.0


def test_lengths_are_those_of_the_raw_strings() -> None:
    # "ab  cx" is 6 raw characters, prepared "ab cx" is 5; the distance to "ab cd" is 1
    assert anls("ab  cx", ["ab cd"]) == pytest.approx(1 - 1 / 6)


def test_lengths_are_those_of_the_upper_case_strings() -> None:
    # "straße" in upper case is the 7 characters "STRASSE"; one substitution
    assert anls("straße", ["strafe"]) == pytest.approx(1 - 1 / 7)


def test_distances_are_in_code_points_and_do_not_fold_accents() -> None:
    assert anls("café", ["cafe"]) == 0.75


def test_an_empty_prediction_scores_zero() -> None:
    assert anls("", ["Coca Cola"]) == 0.0


def test_an_empty_prediction_is_right_where_an_answer_is_empty() -> None:
    assert anls("", ["Coca Cola", ""]) == 1.0


def test_the_word_none_is_nothing_special() -> None:
    assert anls("none", ["None"]) == 1.0


def test_exact_match_ignores_case_and_outer_white_space_only() -> None:
    assert exact_match(" coca COLA\n", ["Pepsi", "Coca Cola "]) == 1.0
    assert exact_match("Coca  Cola", ["Coca Cola"]) == 0.0


@pytest.mark.parametrize("metric", [anls, exact_match])
def test_no_answers_is_an_error(metric) -> None:
    with pytest.raises(ValueError, match="at least one accepted answer, got 0"):
        metric("Coca Cola", [])


def slow_distance(first: str, second: str) -> int:
    """Levenshtein distance by the textbook table."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        above, row = row, [i]
        for j, b in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def slow_anls(prediction: str, answers: list[str]) -> float:
    best = 0.0
    for answer in answers:
        left, right = (" ".join(text.strip().lower().split()) for text in (answer, prediction))
        length = max(len(answer.upper()), len(prediction.upper()))
        best = max(best, 1 - slow_distance(left, right) / length if length else 1.0)
    return best if best >= 0.5 else 0.0


def test_random_answers_score_as_the_rule_read_literally() -> None:
    random = Random(0)
    scores = []
    for _ in range(3000):
        answers = [
            "".join(random.choices("aAbBcß  \tﬁé1", k=random.randint(0, 8)))
            for _ in range(random.randint(1, 3))
        ]
        letters = list(random.choice(answers))
        for _ in range(random.randint(0, 4)):
            letters.insert(random.randint(0, len(letters)), random.choice("aBxß "))
        prediction = "".join(letters)
        scores.append(anls(prediction, answers))
        assert scores[-1] == pytest.approx(slow_anls(prediction, answers), abs=1e-12)
    assert {0.0, 0.5, 1.0} <= set(scores) and len(set(scores)) > 10
