"""Questions and answers that recur are tags, so that the score is told apart by them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.json_files import write_json
from tasks.base import Dataset, Source
from tasks.registry import get_task
from tasks.report import Report, score
from tasks.score_table import breakdown_table
from tests.helpers import read_json, read_lines
from tests.palitune.commands import run
from tests.tasks.test_csv_qa import write_images

COLOUR, SHAPE = "Which colour?", "Box or ball?"


def load(folder: Path, rows: Sequence[tuple[str, str]], task: str = "csv_qa") -> Dataset:
    """The split 'test' of a table with these questions and answers, each of an image."""
    write_images(folder, "a.png")
    lines = ["image,question,answer", *(f"a.png,{asked},{answer}" for asked, answer in rows)]
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    return get_task(task).load("test", Source(tables={"test": folder / "test.csv"}))


def tags(dataset: Dataset) -> set[str]:
    return {tag for example in dataset for tag in example.tags}


PARTS = [(COLOUR, "red"), (COLOUR, "blue"), (SHAPE, "box"), (SHAPE, "ball")]


@pytest.mark.parametrize("task", ["csv_qa", "image_qa"])
def test_recurring_questions_and_answers_are_tags(task: str, tmp_path: Path) -> None:
    dataset = load(tmp_path, PARTS * 5, task)
    assert [example.tags for example in dataset[:4]] == [
        {"question": (COLOUR,), "answer": ("red",)},
        {"question": (COLOUR,), "answer": ("blue",)},
        {"question": (SHAPE,), "answer": ("box",)},
        {"question": (SHAPE,), "answer": ("ball",)},
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # by hand: 2 values need 10 examples, 4 need 20, 12 need 60
        (PARTS * 4, {"question"}),  # 16 examples
        (PARTS * 2, set()),  # 8 examples
        ([(SHAPE, "box"), (SHAPE, "ball")] * 5, {"answer"}),  # one question alone
        ([(f"What is {n}?", "yes" if n % 2 else "no") for n in range(20)], {"answer"}),
        ([(f"What is {n}?", f"it is {n}") for n in range(20)], set()),
        ([(COLOUR if n % 2 else SHAPE, str(n % 12)) for n in range(60)], {"question", "answer"}),
        ([(COLOUR if n % 2 else SHAPE, str(n % 12)) for n in range(59)], {"question"}),
        ([(COLOUR if n % 2 else SHAPE, str(n % 13)) for n in range(130)], {"question"}),
        ([*PARTS * 6, (COLOUR, "rde")], {"question", "answer"}),  # a slip in one cell
    ],
)
def test_a_tag_has_few_values_and_enough_examples_of_them(
    rows: list[tuple[str, str]], expected: set[str], tmp_path: Path
) -> None:
    assert tags(load(tmp_path, rows)) == expected


def test_of_several_accepted_answers_the_most_frequent_is_the_tag(tmp_path: Path) -> None:
    answers = ['"[""red"", ""rose"", ""red""]"', '"[""blue"", ""navy""]"']
    dataset = load(tmp_path, [(COLOUR, answer) for answer in answers * 5])
    assert [e.tags["answer"] for e in dataset[:2]] == [("red",), ("blue",)]


def test_a_part_of_a_split_keeps_the_tags_of_the_whole(tmp_path: Path) -> None:
    whole = load(tmp_path, PARTS * 5)
    part = whole.subset(3, seed=0)
    assert all(set(example.tags) == {"question", "answer"} for example in part)


def test_conversations_have_the_last_question_and_answer(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    records = [
        {
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": f"<image>\nHello {number}"},
                {"from": "gpt", "value": f"Hi {number}"},
                {"from": "human", "value": asked},
                {"from": "gpt", "value": answer},
            ],
        }
        for number, (asked, answer) in enumerate(PARTS * 5)
    ]
    write_json(tmp_path / "test.json", records)
    source = Source(tables={"test": tmp_path / "test.json"})
    first = get_task("conversations").load("test", source)[0]
    assert first.tags == {"question": (COLOUR,), "answer": ("red",)}


def scored(dataset: Dataset, predictions: Sequence[str]) -> Report:
    examples = list(dataset)
    report = Report(
        task=dataset.task,
        split="test",
        examples=examples,
        prompts=(),
        raw_predictions=predictions,
        predictions=predictions,
    )
    return score(report, headline_only=True)


def test_the_terminal_shows_a_line_for_each_value(tmp_path: Path) -> None:
    report = scored(load(tmp_path, PARTS * 5), ["red", "red", "box", "ball"] * 5)
    assert breakdown_table(report).splitlines() == [
        "rouge_l by question",
        "  Box or ball?   1    10 examples",
        "  Which colour?  0.5  10 examples",
        "rouge_l by answer",
        "  ball  1  5 examples",
        "  blue  0  5 examples",
        "  box   1  5 examples",
        "  red   1  5 examples",
    ]


def test_the_terminal_shows_twelve_lines_at_most_and_names_the_rest(tmp_path: Path) -> None:
    rows = [(COLOUR if n % 2 else SHAPE, str(n % 11)) for n in range(110)]
    lines = breakdown_table(scored(load(tmp_path, rows), ["1"] * 110)).splitlines()
    assert lines[0] == "rouge_l by question" and len(lines) == 4
    assert lines[-1] == "rouge_l by answer is in metrics.json."


def test_without_scores_or_values_to_compare_there_is_no_breakdown(tmp_path: Path) -> None:
    dataset = load(tmp_path, PARTS * 5)
    pair = breakdown_table(scored(dataset[:2], ["red", "red"])).splitlines()
    assert pair == ["rouge_l by answer", "  blue  0  1 example", "  red   1  1 example"]
    report = scored(dataset[:1], ["red"])
    assert report.breakdown == {"question": {COLOUR: 1.0}, "answer": {"red": 1.0}}
    assert breakdown_table(report) == ""
    unlike = scored(load(tmp_path, [("a", "b"), ("c", "d")]), ["b", "b"])
    assert unlike.breakdown == {} and breakdown_table(unlike) == ""


def test_predictions_of_a_file_get_the_same_breakdown(tmp_path: Path) -> None:
    load(tmp_path, PARTS * 5)
    answers = [  # by the lines of the table
        {"id": line, "prediction": text}
        for line, text in enumerate(["red", "red", "box", "x"] * 5, start=2)
    ]
    write_json(tmp_path / "answers.json", answers)
    words = ("--task", "csv_qa", "--csv", tmp_path / "test.csv", "--metric", "exact_match")
    folder = tmp_path / "out"
    result = run("eval", *words, "--predictions", tmp_path / "answers.json", "--output_dir", folder)
    assert read_json(folder / "metrics.json")["breakdown"] == {
        "question": {SHAPE: 0.5, COLOUR: 0.5},
        "answer": {"ball": 0.0, "blue": 0.0, "box": 1.0, "red": 1.0},
    }
    assert "exact_match by question\n  Box or ball?   0.5  10 examples\n" in result.output
    assert read_lines(folder / "predictions.jsonl")[0]["tags"]["answer"] == ["red"]
