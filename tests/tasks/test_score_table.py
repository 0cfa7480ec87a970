"""The table of scores on the terminal: each figure once, what is missing in one line."""

from dataclasses import replace

import msgspec
import numpy as np

from tasks.base import Example, Scores, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tasks.report import Report
from tasks.score_table import answer_table, score_table
from tasks.shown_figures import for_longer_texts

_SHORT = ("red", "red", "blue")
_LONG = ("a box of red paint",)


def example(number: int, references: tuple[str, ...]) -> Example:
    return Example(
        example_id=number,
        image=ArrayImage(np.zeros((4, 4, 3), np.uint8), f"image {number}"),
        turns=(Turn("user", f"question {number}"),),
        references=references,
        tags={},
    )


def report(
    metrics: dict[str, float | None],
    reasons: dict[str, str] | None = None,
    predictions: tuple[str, ...] = ("red",) * 5,
    notes: tuple[str, ...] = (),
    references: tuple[str, ...] = _LONG,
    **extra: dict[str, float | None],
) -> Report:
    """A report with the figures given; its headline is `rouge_l`."""
    return Report(
        task=get_task("csv_qa"),
        split="test",
        examples=[example(number, references) for number in range(5)],
        prompts=(),
        raw_predictions=predictions,
        predictions=predictions,
        scores=Scores(values=[1.0, 0.0, 0.5, 1.0, 0.25], metrics=metrics, reasons=reasons or {}),
        notes=notes,
        extra_metrics=extra,
    )


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_figure_that_two_entries_hold_stands_in_one_row() -> None:
    official = {"rouge_l": 0.5, "exact_match": 0.25}
    text = score_table(report(official, text_metrics={"exact_match": 0.25, "sacrebleu": 7.5}))
    assert rows(text)[1:] == [
        ["rouge_l", "0.5"],
        ["exact_match", "0.25"],
        ["text_metrics,", "beside", "the", "task's", "own", "figures"],
        ["sacrebleu", "7.5"],
    ]


def test_a_group_with_nothing_new_is_left_out() -> None:
    text = score_table(report({"rouge_l": 0.5}, text_metrics={"rougeL": 0.5}))
    assert "text_metrics" not in text and "rougeL" not in text


def test_equal_figures_of_one_rule_are_one_row() -> None:
    assert "rougeL" not in score_table(report({"rouge_l": 0.5, "rougeL": 0.5}))


def test_rouges_that_differ_say_in_what() -> None:
    text = score_table(report({"rouge_l": 0.5, "rougeL": 0.25, "ROUGE_L": 0.75}))
    found = {row[0]: " ".join(row[1:]) for row in rows(text)[1:]}
    assert found == {
        "rouge_l": "0.5 (words of every script)",
        "rougeL": "0.25 (words of a to z and digits alone)",
        "ROUGE_L": "0.75 (by the COCO scorer, where recall weighs more)",
    }


def test_what_is_not_available_stands_in_one_line_with_its_reason() -> None:
    reasons = {"METEOR": "Java was not found", "CIDEr": "Java was not found", "SPICE": "x" * 81}
    metrics = {"rouge_l": 0.5, **dict.fromkeys(reasons)}
    (line,) = [
        line for line in score_table(report(metrics, reasons)).splitlines() if "not av" in line
    ]
    assert line == (
        "  not available: METEOR, CIDEr (Java was not found); SPICE (metrics.json says why)"
    )


def test_the_note_on_a_missing_figure_is_not_told_again() -> None:
    notes = ("text_metrics, METEOR: Java was not found.", "BLEU is 0.", "BLEU is 0.")
    text = score_table(report({"rouge_l": 0.5}, notes=notes, text_metrics={"METEOR": None}))
    assert text.count("Java") == 1 and "not available: METEOR (Java was not found)" in text
    assert text.count("BLEU is 0.") == 1


def test_figures_for_longer_texts_are_named_in_one_line_where_answers_are_short() -> None:
    metrics = {"rouge_l": 0.5, "exact_match": 0.25, "sacrebleu": 0.0, "rougeL": 0.0, "SPICE": None}
    notes = (
        "sacrebleu is 0 by its rule, as no prediction has four tokens.",
        "rougeL sees the letters a to z and digits only.",
        "Skipped: 3 examples.",
    )
    found = report(metrics, {"SPICE": "no Java"}, notes=notes, references=_SHORT)
    assert score_table(found).splitlines()[1:] == [
        "  rouge_l        0.5",
        "  exact_match    0.25",
        "Figures made for longer texts are in metrics.json: sacrebleu, rougeL.",
        "Skipped: 3 examples.",
    ]
    assert found.metrics_json()["metrics"] == metrics
    assert found.metrics_json()["notes"] == list(notes)


def test_one_answer_of_four_words_brings_every_figure_back() -> None:
    metrics = {"rouge_l": 0.5, "sacrebleu": 7.5, "CIDEr": 1.5}
    short = score_table(report(metrics, references=("a red box",)))
    assert ["CIDEr", "1.5"] not in rows(short) and ["rouge_l", "0.5"] in rows(short)
    text = score_table(report(metrics, references=("red", "a box of paint")))
    assert ["sacrebleu", "7.5"] in rows(text) and ["CIDEr", "1.5"] in rows(text)


def test_a_headline_and_the_official_figures_of_captions_are_always_shown() -> None:
    assert for_longer_texts(("CIDEr", "Bleu_4", "rouge_l"), "CIDEr", [("a dog",)]) == ("Bleu_4",)
    assert for_longer_texts(("CIDEr", "Bleu_4", "METEOR"), "CIDEr", [("a dog",)]) == ()
    assert for_longer_texts(("vqa_accuracy",), "vqa_accuracy", [("dog",)]) == ()


def test_answers_of_the_lowest_a_middle_and_the_highest_score_are_shown() -> None:
    predictions = ("a", "b", "c", "d", "e")  # of the scores 1, 0, 0.5, 1 and 0.25
    table = answer_table(report({"rouge_l": 0.55}, predictions=predictions, references=_SHORT))
    assert rows(table) == [
        ["question", "answer", "references", "score"],
        ["question", "1", "b", "red,", "blue", "0"],
        ["question", "2", "c", "red,", "blue", "0.5"],
        ["question", "0", "a", "red,", "blue", "1"],
    ]


def asked(*shown: tuple[str, str, str, float | None]) -> Report:
    """A report on these questions, answers, references and scores; None is no score."""
    found = report({"rouge_l": 0.5}, predictions=("",) * 5)
    assert found.scores is not None
    examples = [
        msgspec.structs.replace(
            example(number, (reference,)), turns=(Turn("user", question),), example_id=number
        )
        for number, (question, _, reference, _) in enumerate(shown)
    ]
    values = [value for *_, value in shown]
    return replace(
        found,
        examples=examples,
        predictions=[answer for _, answer, _, _ in shown],
        scores=replace(found.scores, values=values) if any(v is not None for v in values) else None,
    )


def test_the_answers_shown_differ_where_they_can() -> None:
    colour, shape = "colour?", "shape?"
    found = asked(
        (colour, "green", "green", 1.0),
        (colour, "green", "green", 1.0),
        (shape, "ball", "box", 0.0),
        (shape, "ball", "box", 0.0),
        (shape, "ball", "ball", 1.0),
        (colour, "red", "blue", 0.0),
    )
    assert rows(answer_table(found))[1:] == [
        [shape, "ball", "box", "0"],
        [colour, "red", "blue", "0"],  # what it shares with both is a question alone
        [colour, "green", "green", "1"],
    ]


def test_scores_that_are_all_equal_and_few_examples_are_shown_too() -> None:
    equal = asked(("a?", "x", "x", 1.0), ("a?", "x", "x", 1.0), ("b?", "y", "y", 1.0))
    assert [row[0] for row in rows(answer_table(equal))[1:]] == ["a?", "a?", "b?"]
    assert len(rows(answer_table(asked(("a?", "x", "x", 1.0), ("b?", "x", "y", 0.0))))) == 3
    assert len(rows(answer_table(asked(("a?", "x", "x", 1.0))))) == 2


def test_without_scores_the_first_the_middle_and_the_last_are_shown() -> None:
    found = asked(*[(f"{number}?", "x", "x", None) for number in range(5)])
    assert [row[0] for row in rows(answer_table(found))[1:]] == ["0?", "2?", "4?"]


def test_an_example_without_a_score_is_not_shown_among_the_scored() -> None:
    scores = (None, 0.0, 0.5, None, 1.0)
    found = asked(*[(f"{number}?", "x", "x", score) for number, score in enumerate(scores)])
    assert [row[0] for row in rows(answer_table(found))[1:]] == ["1?", "2?", "4?"]


def test_an_answer_cannot_move_the_cursor_and_is_short() -> None:
    answers = ("\x1b[2Jgone\r\n", "", "word " * 100, "", "")
    table = answer_table(report({"rouge_l": 0.55}, predictions=answers))
    assert table.replace("\n", "").isprintable()
    assert "[2Jgone" in table and max(map(len, table.splitlines())) < 100
