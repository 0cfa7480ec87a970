"""GQA figures: a hand-worked file of nine questions, and a slow implementation of the rules."""

from dataclasses import replace
from random import Random

import pytest

from tasks.metrics.gqa import Choices, Question, gqa_metrics, num_steps, num_words


def question(answer: str, structural: str = "query", **changes) -> Question:
    plain = Question(
        answer=answer,
        structural=structural,
        semantic="attr",
        detailed="categoryThis",
        global_group=None,
        entailed=(),
        is_balanced=True,
        num_words=5,
        num_steps=2,
    )
    return replace(plain, **changes)


QUESTIONS = {
    "01": question("dog", global_group="animal", entailed=("01", "02", "07")),
    "02": question("yes", "verify", entailed=("01",)),
    "03": question("cat", global_group="animal"),
    "04": question("dog", global_group="animal", entailed=("08",)),
    "05": question("color", "compare", detailed="twoCommon"),
    "06": question("red", global_group="color", entailed=("06",)),
    "07": question("no", "verify", is_balanced=False, global_group="color", entailed=("02",)),
    "08": question("yes", "verify", is_balanced=False),
    "09": question("no", "logical", entailed=("08",)),
}
PREDICTIONS = {
    "01": "dog",  # right
    "02": "yes",  # right
    "03": "dog",
    "04": "fox",
    "05": "shape",
    "06": "red",  # right
    "07": "yes",  # wrong, not balanced
    "08": "yes",  # right, not balanced
    "09": "no",  # right
}
ANIMALS = ("cat", "dog")
YES_NO = ("no", "yes")
CHOICES = {
    "01": Choices(valid=ANIMALS, plausible=ANIMALS),
    "02": Choices(valid=YES_NO, plausible=YES_NO),
    "03": Choices(valid=ANIMALS, plausible=("cat",)),
    "04": Choices(valid=ANIMALS, plausible=ANIMALS),
    "05": Choices(valid=("color",), plausible=("color",)),
    "06": Choices(valid=("red", "blue"), plausible=("red",)),
    "07": Choices(valid=(), plausible=()),
    "09": Choices(valid=YES_NO, plausible=YES_NO),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 100 * 4 / 7),  # 01 02 06 09 of the balanced 01-06 and 09
        ("binary", 100 * 2 / 3),  # 02 09 of 02 05 09
        ("open", 100 * 2 / 4),  # 01 06 of 01 03 04 06
        # 01 entails 02 (right) and 07 (wrong): 1/2. 02 entails 01: 1. 09 entails 08: 1.
        # 04 is wrong, 06 entails only itself: not counted. (1/2 + 1 + 1) / 3
        ("consistency", 100 * 2.5 / 3),
        ("validity", 100 * 6 / 7),  # not 04; 05 is "Common", where "shape" is always in scope
        ("plausibility", 100 * 5 / 7),  # not 03 and 04
        # animal: gold dog 2 cat 1, predicted dog 2 fox 1: 0/2 + (0 - 1)^2 / 1 = 1, 3 questions
        # color: gold red 1, predicted red 1: 0, 1 question (07 is not balanced)
        # (1 * 3 + 0 * 1) / 4 / 100
        ("distribution", 0.0075),
    ],
)
def test_the_hand_worked_file_gives(name: str, expected: float) -> None:
    metrics = gqa_metrics(QUESTIONS, PREDICTIONS, CHOICES)
    assert metrics.values[name] == pytest.approx(expected, abs=1e-12)
    assert metrics.reasons == {}


def test_figures_come_in_the_official_order() -> None:
    assert ", ".join(gqa_metrics(QUESTIONS, PREDICTIONS).values) == (
        "accuracy, binary, open, consistency, validity, plausibility, distribution"
    )


def test_answers_are_compared_with_case() -> None:
    metrics = gqa_metrics({"1": question("dog"), "2": question("cat")}, {"1": "Dog", "2": "cat"})
    assert metrics.values["accuracy"] == 50.0


@pytest.mark.parametrize("answer", ["color", "material", "shape"])
def test_common_questions_have_three_answers_in_scope_whatever_the_choices_say(answer: str) -> None:
    asked = {"1": question("color", "compare", detailed="sameCommon2")}
    metrics = gqa_metrics(asked, {"1": answer}, {"1": Choices(valid=(), plausible=())})
    assert metrics.values["validity"] == metrics.values["plausibility"] == 100.0


def test_common_questions_have_no_other_answer_in_scope() -> None:
    asked = {"1": question("color", "compare", detailed="twoCommon")}
    metrics = gqa_metrics(
        asked, {"1": "size"}, {"1": Choices(valid=("size",), plausible=("size",))}
    )
    assert metrics.values["validity"] == metrics.values["plausibility"] == 0.0


def test_distribution_counts_each_surplus_answer_against_its_gold_count() -> None:
    # gold a 3 b 1; predicted a 1 b 3: (1 - 3)^2 / 3 + (3 - 1)^2 / 1 = 16/3, over 100
    asked = {str(i): question("b" if i == 3 else "a", global_group="g") for i in range(4)}
    metrics = gqa_metrics(asked, {"0": "a", "1": "b", "2": "b", "3": "b"})
    assert metrics.values["distribution"] == pytest.approx(16 / 300)


def test_without_a_choices_file_validity_and_plausibility_are_none_with_the_reason() -> None:
    metrics = gqa_metrics(QUESTIONS, PREDICTIONS)
    for name in ("validity", "plausibility"):
        assert metrics.values[name] is None
        assert "choices file" in metrics.reasons[name]
    assert set(metrics.reasons) == {"validity", "plausibility"}


def test_choices_that_miss_a_question_give_none_with_the_count() -> None:
    choices = {key: choice for key, choice in CHOICES.items() if key != "03"}
    metrics = gqa_metrics(QUESTIONS, PREDICTIONS, choices)
    assert metrics.values["validity"] is None
    assert metrics.reasons["validity"].startswith("1 of the 7 balanced questions")


def test_consistency_is_none_where_entailed_questions_are_not_in_the_file() -> None:
    balanced = {key: asked for key, asked in QUESTIONS.items() if asked.is_balanced}
    metrics = gqa_metrics(balanced, PREDICTIONS, CHOICES)
    assert metrics.values["consistency"] is None
    # 01, 02 and 09 need 01, 02, 07 and 08; 07 and 08 are not balanced
    assert metrics.reasons["consistency"].startswith("2 of the 4 entailed questions")
    assert "*_all_questions.json" in metrics.reasons["consistency"]


def test_consistency_is_none_where_entailed_questions_have_no_prediction() -> None:
    predictions = {key: text for key, text in PREDICTIONS.items() if key != "08"}
    metrics = gqa_metrics(QUESTIONS, predictions, CHOICES)
    assert metrics.values["consistency"] is None
    assert metrics.reasons["consistency"].startswith("1 of the 4 entailed questions")
    assert "no prediction" in metrics.reasons["consistency"]


def test_consistency_needs_nothing_of_questions_answered_wrongly() -> None:
    asked = {"1": question("dog", entailed=("absent",)), "2": question("cat", entailed=("1",))}
    assert gqa_metrics(asked, {"1": "fox", "2": "cat"}).values["consistency"] == 0.0


def test_consistency_is_none_where_nothing_is_entailed() -> None:
    metrics = gqa_metrics({"1": question("dog", entailed=("1",))}, {"1": "dog"})
    assert metrics.values["consistency"] is None
    assert "entails another" in metrics.reasons["consistency"]


def test_a_repeated_entailed_question_counts_as_often_as_it_is_listed() -> None:
    asked = {
        "1": question("a", entailed=("2", "2", "3")),
        "2": question("b", is_balanced=False),
        "3": question("c", is_balanced=False),
    }
    metrics = gqa_metrics(asked, {"1": "a", "2": "b", "3": "x"})
    assert metrics.values["consistency"] == pytest.approx(100 * 2 / 3)


def test_binary_is_none_without_binary_questions() -> None:
    metrics = gqa_metrics({"1": question("dog")}, {"1": "cat"})
    assert metrics.values["binary"] is None and metrics.values["open"] == 0.0
    assert "no binary question" in metrics.reasons["binary"]


def test_open_is_none_without_open_questions() -> None:
    metrics = gqa_metrics({"1": question("yes", "verify")}, {"1": "no"})
    assert metrics.values["open"] is None and metrics.values["binary"] == 0.0
    assert "no open question" in metrics.reasons["open"]


def test_distribution_is_none_without_groups() -> None:
    metrics = gqa_metrics({"1": question("dog")}, {"1": "cat"})
    assert metrics.values["distribution"] is None
    assert "global group" in metrics.reasons["distribution"]


def test_missing_predictions_of_balanced_questions_are_an_error_naming_five() -> None:
    asked = {f"0{number}": question("dog") for number in range(8)}
    with pytest.raises(ValueError, match=r"7 of the 8 .* \(01, 02, 03, 04, 05, \.\.\.\)"):
        gqa_metrics(asked, {"00": "dog"})


def test_a_file_without_balanced_questions_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of the 1 given is balanced"):
        gqa_metrics({"1": question("dog", is_balanced=False)}, {"1": "dog"})


def test_words_are_split_at_white_space() -> None:
    assert num_words("Is the man's  t-shirt red, or blue?") == 7


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ([("select", "dog (12)"), ("relate", "_,on,s (3)"), ("query", "name")], 2),
        ([("select", "dog (12)"), ("exist", "?")], 1),
        ([("select", "dog (12)"), ("query", "color")], 2),
        ([("select", "dog (12)"), ("choose name", "dog|cat")], 1),
        ([("select", "dog (12)"), ("choose color", "red|blue")], 2),
        ([("select", "existing sign (4)"), ("query", "name: x")], 0),  # anywhere in the text
        ([], 0),
    ],
)
def test_steps_leave_out_exist_query_name_and_choose_name(
    semantic: list[tuple[str, str]], expected: int
) -> None:
    assert num_steps(semantic) == expected


def slow_metrics(
    questions: dict[str, Question], predictions: dict[str, str], choices: dict[str, Choices]
) -> dict[str, float]:
    """Each figure by its own loop over the questions."""
    lists: dict[str, list[float]] = {
        name: [] for name in ("accuracy", "binary", "open", "validity", "plausibility")
    }
    consistency = []
    groups = {q.global_group for q in questions.values() if q.is_balanced and q.global_group}
    for key, asked in questions.items():
        if not asked.is_balanced:
            continue
        is_right = predictions[key] == asked.answer
        lists["accuracy"].append(is_right)
        lists["open" if asked.structural == "query" else "binary"].append(is_right)
        valid, plausible = choices[key].valid, choices[key].plausible
        if asked.detailed.find("Common") >= 0:
            valid = plausible = ["color", "material", "shape"]
        lists["validity"].append(any(predictions[key] == choice for choice in valid))
        lists["plausibility"].append(any(predictions[key] == choice for choice in plausible))
        others = [other for other in asked.entailed if other != key]
        if is_right and others:
            right = [other for other in others if predictions[other] == questions[other].answer]
            consistency.append(len(right) / len(others))
    metrics = {name: 100 * sum(values) / len(values) for name, values in lists.items()}
    metrics["consistency"] = 100 * sum(consistency) / len(consistency)
    weighted = size = 0.0
    for group in groups:
        members = [k for k, q in questions.items() if q.is_balanced and q.global_group == group]
        chi_square = 0.0
        for answer in {questions[key].answer for key in members}:
            expected = len([key for key in members if questions[key].answer == answer])
            observed = len([key for key in members if predictions[key] == answer])
            chi_square += (observed - expected) ** 2 / expected
        weighted += chi_square * len(members)
        size += len(members)
    return metrics | {"distribution": weighted / size / 100}


def test_random_files_score_as_the_rules_read_literally() -> None:
    random = Random(0)
    words = ["yes", "no", "dog", "cat", "color", "shape"]
    for _ in range(200):
        keys = [str(number) for number in range(60)]
        questions = {
            key: question(
                random.choice(words),
                random.choice(["query", "query", "verify", "logical", "choose", "compare"]),
                detailed=random.choice(["categoryThis", "twoCommon", "exist"]),
                global_group=random.choice([None, "animal", "color"]),
                entailed=tuple(random.choices(keys, k=random.randint(0, 4))),
                is_balanced=random.random() < 0.7,
            )
            for key in keys
        }
        predictions = {
            key: asked.answer if random.random() < 0.5 else random.choice([*words, "owl"])
            for key, asked in questions.items()
        }
        choices = {
            key: Choices(valid=random.sample(words, 3), plausible=random.sample(words, 2))
            for key in keys
        }
        metrics = gqa_metrics(questions, predictions, choices)
        assert metrics.values == pytest.approx(
            slow_metrics(questions, predictions, choices), abs=1e-9
        )
