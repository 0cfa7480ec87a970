"""Rows of a table without an answer are answered and not scored, and that is said."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.report_page import PAGE
from tests.evaluation.test_report_page import data_of
from tests.helpers import read_json, read_lines, sentence
from tests.palitune.commands import run, run_command

MODEL = ("--model_path", "tiny", "--quantization", "none", "--device", "cpu")
BRIEF = ("--max_new_tokens", 4)

pytestmark = pytest.mark.usefixtures("no_java")


def write_table(folder: Path, header: str, *rows: str) -> Path:
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 48), color).save(folder / f"{name}.png")
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_without_answers_is_answered_and_that_nothing_is_scored_is_said(
    tmp_path: Path,
) -> None:
    table = write_table(tmp_path, "image,query,note", "a.png,what is it?,x", "b.png,which?,y")
    out = tmp_path / "out"
    result = run("eval", "--csv", table, *MODEL, *BRIEF, "--text_metrics", "--output_dir", out)
    assert "or the like: its rows are answered, and nothing is scored" in (result.output)
    assert "not available: rouge_l (there are no answers to score against)" in result.output
    metrics = read_json(out / "metrics.json")
    assert (metrics["value"], metrics["num_examples"]) == (None, 2)
    assert metrics["reasons"] == {"rouge_l": "there are no answers to score against"}
    ours = read_lines(out / "predictions.jsonl")
    assert [(row["id"], row["question"], row["score"]) for row in ours] == [
        (2, "what is it?", None),
        (3, "which?", None),
    ]
    written = rows_of(out / "predictions.csv")
    assert [(row["id"], row["instruction"]) for row in written] == [
        ("2", "what is it?"),
        ("3", "which?"),
    ]
    assert [row["prediction"] for row in written] == [row["prediction"] for row in ours]
    page = data_of(out / PAGE)
    answers = [row["answers"][0] for row in page["rows"]]
    assert [answer["prediction"] for answer in answers] == [row["prediction"] for row in ours]
    assert [answer["score"] for answer in answers] == [None, None]
    result = run("eval", "--csv", table, *MODEL, "--baselines", exit_code=2)
    assert "--baselines are scores" in sentence(result.exit_code, result.output)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_of_a_half_filled_table_the_filled_rows_are_scored(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_table(
        tmp_path, "image,instruction,response", "a.png,one,red", "b.png,two,", "b.png,three,x"
    )
    if kind == "jsonl":
        rows: list[dict[str, Any]] = [{**row, "response": row["response"] or None}
                                      for row in rows_of(table)]  # fmt: skip
        table = tmp_path / "table.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("models.base.Family.generate", lambda *a: ["red"] * len(a[2]))
    out = tmp_path / "out"
    result = run("eval", "--csv", table, *MODEL, "--text_metrics", "--output_dir", out)
    metrics = read_json(out / "metrics.json")
    # "red" for "red" and for "x"
    assert (metrics["value"], metrics["num_examples"], metrics["num_questions_read"]) == (0.5, 2, 3)
    assert metrics["text_metrics"]["exact_match"] == 0.5
    scores = [row["score"] for row in read_lines(out / "predictions.jsonl")]
    assert scores == [1, None, 0]
    note = "Not scored: 1 of 3 examples, without an answer."
    assert note in metrics["notes"] and note in result.output
    assert data_of(out / PAGE)["rows"][1]["answers"][0]["prediction"] == "red"


def test_a_json_line_without_the_key_of_the_answer_is_one_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path, "")
    table = tmp_path / "table.jsonl"
    rows = [{"image": "a.png", "question": "one"}, {"image": "b.png", "question": "two"}]
    table.write_text("\n".join(map(json.dumps, [rows[0], {**rows[1], "answer": "red"}])))
    monkeypatch.setattr("models.base.Family.generate", lambda *a: ["red"] * len(a[2]))
    result = run("eval", "--csv", table, *MODEL, "--output_dir", tmp_path / "out")
    assert [row["score"] for row in read_lines(tmp_path / "out/predictions.jsonl")] == [None, 1]
    assert "nothing is scored" not in result.output
    training = ("--train_csv", table, "--output_dir", tmp_path / "run", *MODEL[:2])
    result = run("csv_qa", *training, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert "table.jsonl, line 1, column of the response is empty" in said


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        ("image,instruction,responses", (), "did you mean responses?"),
        ("image,instruction,c", ("--response_column", "d"), "has no column 'd'"),
        ("image,instruction,c", ("--response_column", "label"), "has no column 'label'"),
        ("image,c,response", (), "has no column 'instruction' or 'query' or"),
    ],
)
def test_a_slip_in_a_name_is_no_table_without_answers(
    header: str, options: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    table = write_table(tmp_path, header, "a.png,what?,red")
    result = run("eval", "--csv", table, *MODEL, *options, exit_code=2)
    assert expected in sentence(result.exit_code, result.output)


@pytest.mark.parametrize("header", ["image,instruction,c", "image,instruction,response"])
def test_a_training_and_a_file_of_predictions_need_every_answer(
    header: str, tmp_path: Path
) -> None:
    table = write_table(tmp_path, header, "a.png,one,", "b.png,two,x")
    training = ("--train_csv", table, "--output_dir", tmp_path / "run", *MODEL[:2])
    result = run("csv_qa", *training, exit_code=2)
    assert "response" in sentence(result.exit_code, result.output)
    (tmp_path / "given.json").write_text('[{"id": 2, "prediction": "x"}]')
    result = run("eval", "--csv", table, "--predictions", tmp_path / "given.json", exit_code=2)
    assert "response" in sentence(result.exit_code, result.output)


def test_predict_writes_the_table_with_a_column_more(tmp_path: Path) -> None:
    rows = ('a.png,"what, then?",1', "b.png,which?,=2")
    table = write_table(tmp_path, "image,question,other", *rows)
    before = table.read_bytes()
    words = ("predict", "--csv", table, "--task", "image_qa", *MODEL)
    lines = [json.loads(line) for line in run_command(*words, "--json").stdout.splitlines()]
    assert [(line["id"], line["question"]) for line in lines] == [(2, "what, then?"), (3, "which?")]
    output = tmp_path / "answered.csv"
    run_command(*words, "--output", output)
    assert rows_of(output) == [
        {
            "image": line["image"].rpartition("/")[2],
            "question": line["question"],
            "other": other,
            "prediction": line["prediction"],
        }
        for line, other in zip(lines, ("1", "=2"), strict=True)
    ]
    assert table.read_bytes() == before
    result = run_command(*words, "--output", output, exit_code=2)
    assert "is there already and stays" in sentence(result.exit_code, result.output)


def test_predict_writes_every_key_of_json_lines_and_changes_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path, "")
    rows = [
        {"image": "a.png", "question": "- is it red?"},
        {"image": "b.png", "question": "=A1", "note": "@me", "patient": 7},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr("models.base.Family.generate", lambda *a: ["=1+1"] * len(a[2]))
    output = tmp_path / "answered.csv"
    run_command("predict", "--csv", tmp_path / "t.jsonl", *MODEL, "--output", output)
    with output.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "question", "note", "patient", "prediction"],
            ["a.png", "- is it red?", "", "", "'=1+1"],
            ["b.png", "=A1", "@me", "7", "'=1+1"],
        ]


@pytest.mark.parametrize(
    ("header", "output", "expected"),
    [
        ("image,question,note,note", "x.csv", "has the column 'note' twice"),
        ("image,question,note,more", "a.png/x.csv", "--output a.png cannot be written"),
    ],
)
def test_what_cannot_be_written_again_is_said_before_a_model_is_loaded(
    header: str, output: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, header, "a.png,what?,x,y")
    words = ("--csv", "table.csv", "--model_path", "no/such", "--output", output)
    result = run_command("predict", "--task", "csv_qa", *words, exit_code=2)
    assert expected in sentence(result.exit_code, result.output)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--csv", "table.csv", "a.png"), "Name images, or a table by --csv"),
        ((), "Name images, or a table by --csv"),
        (("a.png", "--output", "x.csv"), "--output goes with --csv"),
        (("--csv", "x.tar", "--output", "x.csv"), "x.tar is no file of one table"),
        (("--csv", "table.csv", "--output", "x.txt"), "must end in .csv"),
        (("--csv", "table.csv", "--output", "x.csv"), "has a column 'prediction' already"),
    ],
)
def test_what_predict_cannot_do_is_one_sentence(
    options: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path, "image,instruction,prediction", "a.png,what?,x")
    (tmp_path / "x.tar").touch()
    result = run_command("predict", *options, *MODEL, exit_code=2)
    assert expected in sentence(result.exit_code, result.output)
