"""`--ids` scores single examples, and says what it cannot find."""

from pathlib import Path

import pytest

from evaluation.report_page import PAGE
from tasks.base import Source
from tasks.registry import get_task
from tests.evaluation.answer_files import ANSWERS, metrics_of, score_file
from tests.evaluation.test_report_page import data_of
from tests.helpers import read_json, read_lines, sentence
from tests.official_files import write_vqav2
from tests.palitune.commands import run

GIVEN = ANSWERS["vqav2"][1]  # of 500000, 501000 and 502000: 30, 100 and 60 %


@pytest.mark.parametrize("listed", ["502000, 500000", "502000\n\n500000\n"])
def test_the_examples_named_are_scored_in_the_order_of_the_split(
    listed: str, tmp_path: Path
) -> None:
    root = write_vqav2(tmp_path)
    given = listed
    if "\n" in listed:
        (tmp_path / "ids.txt").write_text(listed)
        given = str(tmp_path / "ids.txt")
    result = score_file("vqav2", root, GIVEN, "--ids", given)
    assert result.exit_code == 0, result.output
    content = metrics_of(root)
    assert (content["value"], content["num_examples"]) == (pytest.approx(45), 2)
    rows = read_lines(root / "out/predictions.jsonl")
    assert [row["id"] for row in rows] == [500000, 502000]
    # of a subset metrics.json says how many and, by the fingerprint, which
    assert content["provenance"]["data"]["num_examples"] == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--ids", "502000,7,x"), "vqav2 split 'val' has no example 7, x; its ids are like 500000"),
        (("--ids", " , "), "names no example"),
        (("--ids", "502000", "--max_eval_samples", 1), "both choose the examples"),
        (
            ("--ids", "502000", "--submission"),
            "--submission takes the whole split; leave out --ids",
        ),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(
    options: tuple[object, ...], expected: str, tmp_path: Path
) -> None:
    root = write_vqav2(tmp_path)
    result = score_file("vqav2", root, GIVEN, *options)
    assert expected in sentence(result.exit_code, result.output)
    assert not (root / "out").exists()


def test_a_model_is_asked_these_alone_beside_its_scores_and_the_page_has_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (
        "--task",
        "digits",
        "--model_path",
        "tiny",
        "--quantization",
        "none",
        "--device",
        "cpu",
    )
    ids = [1504, 1505]

    ids = [e.example_id for e in get_task("digits").load("val", Source())[:2]]
    run("eval", *words, "--ids", ",".join(map(str, ids)), "--images_budget", 0)
    folder = tmp_path / "runs/evaluation/tiny/digits/val_2_examples"
    assert sorted(row["id"] for row in read_lines(folder / "predictions.jsonl")) == sorted(ids)
    assert read_json(folder / "metrics.json")["num_examples"] == 2
    page = data_of(folder / PAGE)
    assert page["images"] == []
    assert "Images of 2 examples are not inside this page." in page["notes"]
    result = run("eval", *words, "--images_budget", -1, exit_code=2)
    assert "images_budget must be at least 0" in sentence(result.exit_code, result.output)
