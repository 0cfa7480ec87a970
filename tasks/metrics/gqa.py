"""The figures of GQA, by the official rule: accuracy, consistency, validity, distribution, ...

Source of every rule here: `eval.py` of the evaluation download at
https://cs.stanford.edu/people/dorarad/gqa/evaluate.html. Every figure is over the balanced
questions; strings are compared exactly. Grounding needs attention maps, so a model that generates
text has none.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_COMMON_ANSWERS = ("color", "material", "shape")
_NOT_A_STEP = ("exist", "query: name", "choose name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The part of a question that the metric needs.

    Attributes:
        answer: the one accepted answer.
        structural, semantic, detailed: its three types.
        global_group: the group that the answer distribution is taken over.
        entailed: ids of the questions whose answer follows from this one; may list itself.
        is_balanced: whether the figures count it; the others serve consistency only.
        num_words, num_steps: see the functions of these names.
    """

    answer: str
    structural: str
    semantic: str
    detailed: str
    global_group: str | None
    entailed: tuple[str, ...]
    is_balanced: bool
    num_words: int
    num_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Answers in the scope of a question (valid), and those that make sense (plausible)."""

    valid: Collection[str]
    plausible: Collection[str]


@dataclass(frozen=True, slots=True)
class Figures:
    """The official figures by name; for each None in `values`, the reason.

    All are percentages but distribution, which is lower for a better model.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]


def gqa_metrics(
    questions: Mapping[str, Question],
    predictions: Mapping[str, str],
    choices: Mapping[str, Choices] | None = None,
) -> Figures:
    """Compute every figure that the data allows.

    Args:
        questions: by question id; balanced ones and, for consistency, those they entail.
        predictions: by question id; one for every balanced question at least.
        choices: by question id, from the official choices file.
    """
    balanced = {key: question for key, question in questions.items() if question.is_balanced}
    if not balanced:
        raise ValueError(
            f"GQA's figures are over balanced questions, and none of the {len(questions)} given "
            "is balanced."
        )
    _check_predicted(balanced, predictions)
    correct = {key: question.answer == predictions[key] for key, question in balanced.items()}
    open_correct = [correct[key] for key, q in balanced.items() if q.structural == "query"]
    binary_correct = [correct[key] for key, q in balanced.items() if q.structural != "query"]
    results: dict[str, float | str] = {
        "accuracy": _percent(correct.values()),
        "binary": _percent(binary_correct) if binary_correct else "no binary question was given",
        "open": _percent(open_correct) if open_correct else "no open question was given",
        "consistency": _consistency(
            [key for key in balanced if correct[key]], questions, predictions
        ),
        "validity": _share_within("valid", balanced, predictions, choices),
        "plausibility": _share_within("plausible", balanced, predictions, choices),
        "distribution": _distribution(balanced, predictions),
    }
    return Figures(
        values={name: None if isinstance(v, str) else v for name, v in results.items()},
        reasons={name: reason for name, reason in results.items() if isinstance(reason, str)},
    )


def num_words(question: str) -> int:
    """Count the words of a question as the official table by words does."""
    return len(question.split())


def num_steps(semantic: Sequence[tuple[str, str]]) -> int:
    """Count the reasoning steps of a question as the official table by steps does.

    Args:
        semantic: (operation, argument) of each operation of the question's program.
    """
    programs = (f"{operation}: {argument}" for operation, argument in semantic)
    return sum(not any(mark in program for mark in _NOT_A_STEP) for program in programs)


# Each function below returns the figure, or the reason why the data does not allow it.


def _consistency(
    correct: Sequence[str], questions: Mapping[str, Question], predictions: Mapping[str, str]
) -> float | str:
    """Average over correctly answered questions: the share of what they entail that is correct."""
    entailed = {key: [e for e in questions[key].entailed if e != key] for key in correct}
    needed = {e for keys in entailed.values() for e in keys}
    if not needed:
        return "no correctly answered balanced question entails another one"
    if absent := len(needed - questions.keys()):
        return (
            f"{absent} of the {len(needed)} entailed questions needed are not in the questions "
            "given: it takes the *_all_questions.json file"
        )
    if unanswered := len(needed - predictions.keys()):
        return (
            f"{unanswered} of the {len(needed)} entailed questions needed have no prediction: it "
            "takes predictions for all questions, not for the balanced ones alone"
        )
    right = {e for e in needed if questions[e].answer == predictions[e]}
    shares = [_percent([e in right for e in keys]) for keys in entailed.values() if keys]
    return sum(shares) / len(shares)


def _share_within(
    scope: str,
    balanced: Mapping[str, Question],
    predictions: Mapping[str, str],
    choices: Mapping[str, Choices] | None,
) -> float | str:
    """Average of: the prediction is one of the question's valid (or plausible) answers."""
    if choices is None:
        return "it takes the official choices file, and none was given"
    within = []
    missing = 0
    for key, question in balanced.items():
        if "Common" in question.detailed:
            within.append(predictions[key] in _COMMON_ANSWERS)
        elif key in choices:
            within.append(predictions[key] in getattr(choices[key], scope))
        else:
            missing += 1
    if missing:
        return f"{missing} of the {len(balanced)} balanced questions are not in the choices file"
    return _percent(within)


def _distribution(balanced: Mapping[str, Question], predictions: Mapping[str, str]) -> float | str:
    """Chi-square between the counts of true and of predicted answers, averaged over the groups."""
    gold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    predicted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, question in balanced.items():
        if question.global_group is not None:
            gold[question.global_group][question.answer] += 1
            predicted[question.global_group][predictions[key]] += 1
    if not gold:
        return "no balanced question has a global group"
    weighted = 0.0
    for group, counts in gold.items():
        # A predicted answer that is never right in its group is ignored, as in the official script.
        chi_square = sum((predicted[group][a] - count) ** 2 / count for a, count in counts.items())
        weighted += chi_square * counts.total()
    return weighted / sum(counts.total() for counts in gold.values()) / 100


def _percent(claims: Collection[bool]) -> float:
    return 100 * sum(claims) / len(claims)


def _check_predicted(balanced: Mapping[str, Question], predictions: Mapping[str, str]) -> None:
    missing = [key for key in balanced if key not in predictions]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{len(missing)} of the {len(balanced)} balanced GQA questions have no prediction "
            f"({shown}); the official rule takes one for each."
        )
