"""The table of scores on the terminal: each figure once, what is missing in one line."""

import numpy as np

from tasks.base import Example, Scores, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tasks.report import Report
from tasks.score_table import answer_table, score_table

_EXAMPLES = [
    Example(
        example_id=number,
        image=ArrayImage(np.zeros((4, 4, 3), np.uint8), f"image {number}"),
        turns=(Turn("user", f"question {number}"),),
        references=("red", "red", "blue"),
        tags={},
    )
    for number in range(5)
]


def report(
    metrics: dict[str, float | None],
    reasons: dict[str, str] | None = None,
    predictions: tuple[str, ...] = ("red",) * 5,
    notes: tuple[str, ...] = (),
    **extra: dict[str, float | None],
) -> Report:
    """A report with the figures given; its headline is `rouge_l`."""
    return Report(
        task=get_task("csv_qa"),
        split="test",
        examples=_EXAMPLES,
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
        ["text_metrics,", "which", "are", "not", "the", "official", "figures"],
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


def test_the_first_the_middle_and_the_last_answer_are_shown() -> None:
    table = answer_table(report({"rouge_l": 0.55}, predictions=("a", "b", "c", "d", "e")))
    assert rows(table) == [
        ["question", "answer", "references", "score"],
        ["question", "0", "a", "red,", "blue", "1"],
        ["question", "2", "c", "red,", "blue", "0.5"],
        ["question", "4", "e", "red,", "blue", "0.25"],
    ]


def test_an_answer_cannot_move_the_cursor_and_is_short() -> None:
    answers = ("\x1b[2Jgone\r\n", "", "word " * 100, "", "")
    table = answer_table(report({"rouge_l": 0.55}, predictions=answers))
    assert table.replace("\n", "").isprintable()
    assert "[2Jgone" in table and max(map(len, table.splitlines())) < 100
