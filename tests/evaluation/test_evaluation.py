"""Scoring a file of predictions: from the annotation files alone, without a model or an image."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from palitune.main import palitune
from tasks.base import Source
from tasks.registry import get_task
from tests.evaluation.answer_files import (
    ANSWERS,
    metrics_of,
    run,
    score_file,
    without_images,
    write_file,
)
from tests.helpers import REPOSITORY, sentence
from tests.official_files import write_coco, write_gqa, write_vqav2


@pytest.mark.parametrize("task", ANSWERS)
def test_a_file_is_scored_without_images_by_the_official_rule(task: str, tmp_path: Path) -> None:
    write_data, answers, expected = ANSWERS[task]
    result = score_file(task, without_images(write_data(tmp_path)), answers)
    assert result.exit_code == 0, result.output
    content = metrics_of(tmp_path)
    assert content["value"] == pytest.approx(expected, abs=1e-9)
    assert (content["task"], content["num_examples"]) == (task, 3)
    _, text_key = get_task(task).result_keys
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in lines] == [a[text_key] for a in answers]


def test_captions_are_scored_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.metrics.java.shutil.which", lambda _: None)
    without_images(write_coco(tmp_path))
    captions = [{"image_id": i, "caption": "a plain red square"} for i in (500, 501, 502)]
    assert score_file("coco_captioning", tmp_path, captions).exit_code == 0
    content = metrics_of(tmp_path)
    assert content["value"] > 0
    assert "approximate" in content["notes"][0]


@pytest.mark.parametrize("year", [2014, 2017])
def test_of_two_years_in_a_folder_the_one_that_was_captioned_is_scored(
    year: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.metrics.java.shutil.which", lambda _: None)
    # val2017 is a part of val2014, as the official ones are
    write_coco(tmp_path, "annotations_2014", num_val=3)
    write_coco(tmp_path, "annotations_2017", num_val=2)
    ids = range(500, 503 if year == 2014 else 502)
    captions = [{"image_id": i, "caption": "red"} for i in ids]
    result = score_file("coco_captioning", tmp_path, captions, "--submission")
    assert result.exit_code == 0, result.output
    assert metrics_of(tmp_path)["num_examples"] == len(ids)
    assert (tmp_path / f"out/captions_val{year}_palitune_results.json").is_file()


def test_a_predictions_file_of_ours_gives_the_same_scores_again(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    score_file("vqav2", root, ANSWERS["vqav2"][1])
    first = metrics_of(root)
    rows = (root / "out/predictions.jsonl").read_text().splitlines()
    told = [json.loads(row) | {"prompt": "answer en it?", "raw_prediction": "x"} for row in rows]
    path = root / "ours.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    result = run(
        *("--task", "vqav2", "--data_root", root, "--predictions", path),
        *("--output_dir", root / "again"),
    )
    assert result.exit_code == 0, result.output
    again = json.loads((root / "again/metrics.json").read_text())
    for key in ("value", "metrics", "breakdown", "uncertainty"):
        assert again[key] == first[key]
    rows = (root / "again/predictions.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == told


def test_scoring_a_file_loads_no_torch_and_takes_the_embedded_data(tmp_path: Path) -> None:
    task = get_task("docvqa")
    CliRunner().invoke(palitune, ["tasks"])  # the cache folder is the tests' own
    from tasks.sample import sample_root

    dataset = task.load("val", Source(data_root=Path(sample_root("docvqa"))))
    content = [{"questionId": e.example_id, "answer": e.references[0]} for e in dataset]
    path = write_file(tmp_path / "given.json", content)
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'transformers', 'peft', 'accelerate', 'datasets'):\n"
        "    sys.modules[name] = None\n"  # importing one of them fails
        f"sys.argv = ['eval.py', '--task', 'docvqa', '--data_root', 'sample', '--predictions',"
        f" {str(path)!r}, '--output_dir', 'out']\n"
        f"runpy.run_path({str(REPOSITORY / 'eval.py')!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert result.returncode == 0, result.stderr
    assert metrics_of(tmp_path)["metrics"] == {"anls": 1, "accuracy": 1}


def test_gqa_takes_all_questions_where_the_file_answers_them(tmp_path: Path) -> None:
    root = write_gqa(tmp_path, "root", choices=True)
    path = root / "val_all_questions.json"
    questions = json.loads(path.read_text())
    extra = {"imageId": "n500", "isBalanced": False, "answer": "no"}
    questions |= {f"0{i}": {**extra, "question": f"Is it pink {i}?"} for i in (600, 601)}
    questions["0501"]["entailed"] = ["0501", "0600", "0601", "0500"]
    path.write_text(json.dumps(questions))
    write_file(root / "val_balanced_questions.json", {k: questions[k] for k in list(questions)[:3]})
    balanced = [{"questionId": k, "prediction": questions[k]["answer"]} for k in
                ("0500", "0501", "0502")]  # fmt: skip
    others = [{"questionId": "0600", "prediction": "no"}, {"questionId": "0601", "prediction": "x"}]
    split = ("--split", "val")

    assert score_file("gqa", without_images(root), balanced + others, *split).exit_code == 0
    content = metrics_of(root)
    assert content["value"] == 100  # the wrong answer is to a question that is not balanced
    assert (content["num_examples"], content["num_questions_read"]) == (3, 5)
    # 501 entails 600 (right), 601 (wrong) and 500 (right)
    assert content["metrics"]["consistency"] == pytest.approx(200 / 3)
    assert content["metrics"]["validity"] == 100
    rows = [json.loads(line) for line in (root / "out/predictions.jsonl").read_text().splitlines()]
    assert [row["score"] for row in rows] == [100, 100, 100, None, None]

    assert score_file("gqa", root, balanced, *split).exit_code == 0
    content = metrics_of(root)
    assert content["metrics"]["consistency"] is None
    assert "all_questions" in content["reasons"]["consistency"]
    assert "num_questions_read" not in content

    message = sentence(2, score_file("gqa", root, balanced + others[:1], *split).output)
    assert "1 that are not in it: 0600" in message


def test_gqa_without_the_balanced_file_takes_its_questions_from_the_whole(tmp_path: Path) -> None:
    root = write_gqa(tmp_path, "root")
    (root / "val_balanced_questions.json").unlink()
    questions = json.loads((root / "val_all_questions.json").read_text())
    questions["0502"]["isBalanced"] = False
    (root / "val_all_questions.json").write_text(json.dumps(questions))
    answers = [{"questionId": k, "prediction": "yes"} for k in ("0500", "0501")]
    result = score_file("gqa", root, answers, "--split", "val")
    assert result.exit_code == 0, result.output
    assert metrics_of(root)["value"] == 50


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda a: a[:2], ["no prediction for 1 of 3: 502000"]),
        (lambda a: [*a, {"question_id": 7, "answer": "x"}], ["1 that are not in it: 7"]),
        (lambda a: [*a, a[0]], ["1 id(s) more than once: 500000"]),
        (lambda a: [{**a[0], "answer": None}, *a[1:]], ["Expected `str`, got `null`"]),
        (lambda a: [{**a[0], "answer": 2}, *a[1:]], ["Expected `str`, got `int`"]),
        (lambda a: [], ["is empty"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_written(
    change: Callable[[list[dict[str, Any]]], Any], parts: list[str], tmp_path: Path
) -> None:
    result = score_file("vqav2", write_vqav2(tmp_path), change(ANSWERS["vqav2"][1]))
    message = sentence(result.exit_code, result.output)
    assert str(tmp_path / "given.json") in message
    for part in parts:
        assert part in message
    assert not (tmp_path / "out").exists()


def test_three_answers_in_place_of_ten_are_scored_by_the_same_rule(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    path = root / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["answers"] = annotation["answers"][:3]  # pink and twice the colour
    path.write_text(json.dumps(content))
    assert score_file("vqav2", root, ANSWERS["vqav2"][1]).exit_code == 0
    # pink: left out 0 of 3, else 1 of 3 matches: (0 + 1/3 + 1/3) / 3 = 2/9; green: left out twice
    # 1 match, once 2: (1/3 + 1/3 + 2/3) / 3 = 4/9; dark: 0
    assert metrics_of(root)["value"] == pytest.approx(100 * (2 / 9 + 4 / 9) / 3)


def test_no_questions_and_cut_annotations_are_one_sentence(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    questions = root / "v2_OpenEnded_mscoco_val2014_questions.json"
    whole = questions.read_text()
    questions.write_text(json.dumps({"questions": []}))
    result = score_file("vqav2", root, ANSWERS["vqav2"][1], "--split", "val")
    assert f"{questions} is empty" in sentence(result.exit_code, result.output)
    questions.write_text(whole[:-9])
    result = score_file("vqav2", root, ANSWERS["vqav2"][1], "--split", "val")
    assert f"{questions} is not complete JSON" in sentence(result.exit_code, result.output)


def test_annotations_with_byte_order_mark_windows_ends_and_text_ids_are_read(
    tmp_path: Path,
) -> None:
    root = write_vqav2(tmp_path)
    path = root / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["question_id"] = str(annotation["question_id"])
    text = json.dumps(content, indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    answers = [{**a, "question_id": str(a["question_id"])} for a in ANSWERS["vqav2"][1]]
    assert score_file("vqav2", root, answers).exit_code == 0
    assert metrics_of(root)["value"] == pytest.approx(190 / 3)


def test_part_of_a_split_is_scored_where_allowed_and_that_is_said(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    answers = [ANSWERS["vqav2"][1][2], {"question_id": 7, "answer": "x"}]
    result = score_file("vqav2", root, answers, "--allow_partial")
    assert result.exit_code == 0, result.output
    content = metrics_of(root)
    assert (content["value"], content["num_examples"]) == (pytest.approx(60), 1)
    assert "no prediction for 2 of 3" in content["notes"][0]
    assert "no prediction for 2 of 3" in result.output


def test_a_seeded_part_of_the_file_is_scored_on_request(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    score_file("vqav2", root, ANSWERS["vqav2"][1], "--max_eval_samples", 2)
    rows = [json.loads(line) for line in (root / "out/predictions.jsonl").read_text().splitlines()]
    subset = get_task("vqav2").load("val", Source(data_root=root)).subset(2, seed=0)
    assert [row["id"] for row in rows] == [example.example_id for example in subset]
