"""Scores replace no others unsaid, and no file that is not an evaluation's."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.provenance import describe_data
from evaluation.result_folder import Scored, choose_folder
from tasks.base import Example
from tests.evaluation.answer_files import ANSWERS, run, score_file, write_file
from tests.evaluation.evaluated import example
from tests.helpers import read_json, sentence
from tests.official_files import write_docvqa, write_vqav2

EXAMPLES = [example(number) for number in range(9)]


def scored(examples: Sequence[Example], task: str = "vqav2", split: str = "val") -> Scored:
    return Scored(task, split, examples)


def keep(folder: Path, of: Scored) -> None:
    folder.mkdir(parents=True)
    known = {"task": of.task, "split": of.split, "num_examples": len(of.examples), "metric": "m"}
    data = describe_data(of.split, of.examples)
    (folder / "metrics.json").write_text(json.dumps({**known, "provenance": {"data": data}}))


@pytest.mark.parametrize(
    "new",
    [
        scored(EXAMPLES[:2]),  # fewer
        scored(EXAMPLES[:2], "docvqa"),
        scored(EXAMPLES[:2], split="test"),
    ],
)
def test_scores_of_fewer_or_other_examples_go_beside(
    new: Scored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path / "val", scored(EXAMPLES[:5]))
    assert choose_folder(None, tmp_path / "val", new) == tmp_path / "val_2_examples"
    assert (
        f"{tmp_path}/val holds the scores of 5 examples (vqav2, split 'val') and is left; those "
        f"of 2 go to {tmp_path}/val_2_examples." in caplog.text
    )


def test_as_many_of_another_task_go_beside_too(tmp_path: Path) -> None:
    keep(tmp_path / "val", scored(EXAMPLES))
    new = scored(EXAMPLES, "docvqa")
    assert choose_folder(None, tmp_path / "val", new) == tmp_path / "val_9_examples"


def test_beside_each_choice_of_examples_has_its_own_folder_and_finds_it_again(
    tmp_path: Path,
) -> None:
    keep(tmp_path / "val", scored(EXAMPLES))
    choices = [scored(EXAMPLES[start : start + 3]) for start in (0, 3, 6)]
    names = ("val_3_examples", "val_3_examples_2", "val_3_examples_3")
    for choice, name in zip(choices, names, strict=True):
        assert choose_folder(None, tmp_path / "val", choice) == tmp_path / name
        keep(tmp_path / name, choice)
    for choice, name in zip(choices, names, strict=True):
        assert choose_folder(None, tmp_path / "val", choice) == tmp_path / name


@pytest.mark.parametrize("num_examples", [5, 9])
def test_scores_of_as_many_or_more_replace_them_and_that_is_said(
    num_examples: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path / "val", scored(EXAMPLES[:5]))
    new = scored(EXAMPLES[:num_examples])
    assert choose_folder(None, tmp_path / "val", new) == tmp_path / "val"
    assert "The scores of 5 examples (vqav2, split 'val') in" in caplog.text
    assert "are replaced" in caplog.text


@pytest.mark.parametrize("new", [scored(EXAMPLES[2:7]), scored(EXAMPLES[:5], "docvqa")])
def test_in_the_folder_that_was_asked_for_others_are_replaced_and_that_is_said(
    new: Scored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path / "own", scored(EXAMPLES[:5]))
    assert choose_folder(tmp_path / "own", tmp_path / "val", new) == tmp_path / "own"
    assert f"examples (vqav2, split 'val') in {tmp_path}/own are replaced" in caplog.text


def test_the_first_scores_and_the_same_ones_again_are_written_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = scored(EXAMPLES[:5])
    assert choose_folder(None, tmp_path / "val", new) == tmp_path / "val"
    keep(tmp_path / "own", new)
    assert choose_folder(tmp_path / "own", tmp_path / "val", new) == tmp_path / "own"
    assert not caplog.text


MINE = '{"task": "mine", "split": "val", "metric": "loss", "num_examples": "all"}'
SUBMITTED = "v2_OpenEnded_mscoco_val2014_palitune_results.json"
WRITTEN = ("metrics.json", "predictions.csv", "predictions.jsonl", "report.html", SUBMITTED)


@pytest.mark.parametrize("name", [*WRITTEN, "visualizations/sample_000.png"])
def test_files_of_others_are_not_written_over(name: str, tmp_path: Path) -> None:
    root = write_vqav2(tmp_path / "data")
    given = write_file(tmp_path / "given.json", ANSWERS["vqav2"][1])
    own = tmp_path / "own"
    (own / name).parent.mkdir(parents=True)
    (own / name).write_text(MINE)
    scoring = ("--task", "vqav2", "--data_root", root, "--predictions", given, "--submission")
    result = run(*scoring, "--output_dir", own)
    error = sentence(result.exit_code, result.output)
    assert f"{own / name} would be written over" in error and "by --output_dir" in error
    assert [path for path in own.rglob("*") if path.is_file()] == [own / name]
    assert (own / name).read_text() == MINE


def test_that_is_found_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("mine")
    (tmp_path / "data").mkdir()  # without a file
    given = write_file(tmp_path / "given.json", "nonsense")
    data = ("--data_root", tmp_path / "data", "--predictions", given)
    result = run("--task", "vqav2", *data, "--output_dir", tmp_path)
    assert "metrics.json would be written over" in sentence(result.exit_code, result.output)


def test_other_files_beside_the_scores_are_no_hindrance(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    (root / "out").mkdir()
    (root / "out/results.json").write_text("mine")
    for _ in range(2):  # the same command again
        result = score_file("vqav2", root, ANSWERS["vqav2"][1])
        assert result.exit_code == 0 and "are replaced" not in result.output, result.output
    assert (root / "out/results.json").read_text() == "mine"


def test_a_leaderboards_file_that_is_scored_is_not_written_anew(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    score_file("vqav2", root, ANSWERS["vqav2"][1], "--submission")
    before = (root / "out" / SUBMITTED).read_bytes()
    data = ("--task", "vqav2", "--data_root", root, "--submission")
    result = run(*data, "--predictions", root / "out" / SUBMITTED, "--output_dir", root / "out")
    assert "holds the file of --predictions" in sentence(result.exit_code, result.output)
    assert (root / "out" / SUBMITTED).read_bytes() == before


def test_beside_a_file_the_scores_of_a_part_or_of_another_task_leave_those_of_the_whole(
    tmp_path: Path,
) -> None:
    root = write_vqav2(tmp_path / "vqa")
    given = write_file(tmp_path / "r.json", ANSWERS["vqav2"][1])
    scoring = ("--task", "vqav2", "--data_root", root, "--predictions", given)
    assert run(*scoring).exit_code == 0
    whole = (tmp_path / "r_scores/metrics.json").read_bytes()
    assert run(*scoring, "--ids", "500000").exit_code == 0
    assert run(*scoring, "--ids", "502000").exit_code == 0
    other = write_docvqa(tmp_path / "doc")
    given = write_file(tmp_path / "r.jsonl", ANSWERS["docvqa"][1])
    assert run("--task", "docvqa", "--data_root", other, "--predictions", given).exit_code == 0
    assert (tmp_path / "r_scores/metrics.json").read_bytes() == whole
    # one of ten people says what was answered to 500000, and two do to 502000: 30 % each
    found = {place.parent.name: read_json(place) for place in tmp_path.glob("r_*/metrics.json")}
    assert {name: content["value"] for name, content in found.items()} == {
        "r_scores": pytest.approx((30 + 100 + 60) / 3),
        "r_scores_1_examples": pytest.approx(30),
        "r_scores_1_examples_2": pytest.approx(60),
        "r_scores_3_examples": pytest.approx(1.75 / 3),
    }
