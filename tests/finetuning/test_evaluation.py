"""Scoring a file of predictions: from the annotation files alone, without a model or an image."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from evaluation.provenance import of_file, with_provenance
from palitune.main import palitune
from tasks.base import Source
from tasks.overlap import overlap_notes
from tasks.registry import get_task
from tasks.report import Report
from tests.helpers import REPOSITORY, sentence
from tests.models.test_clip import make_clip
from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2

IMAGE_FOLDERS = ("images", "val2014", "train2014", "test2014", "test2015", "spdocvqa_images")
# the pictures 500, 501, 502 are red, green, blue: see tests/official_files.py
ANSWERS: dict[str, tuple[Callable[[Path], Path], list[dict[str, Any]], float]] = {
    "vqav2": (
        write_vqav2,
        # 1 of 10 answers, 7 of 10, 2 of 10
        [
            {"question_id": 500000, "answer": "pink"},
            {"question_id": 501000, "answer": "green"},
            {"question_id": 502000, "answer": "Dark"},
        ],
        (30 + 100 + 60) / 3,
    ),
    "docvqa": (
        write_docvqa,
        # one letter of 4 wrong; white space; nothing alike
        [
            {"questionId": 500, "answer": "reds"},
            {"questionId": 501, "answer": " green"},
            {"questionId": 502, "answer": "x"},
        ],
        (0.75 + 1 + 0) / 3,
    ),
    "gqa": (
        write_gqa,
        # the rule compares with case: what a file says is not cleaned
        [
            {"questionId": "0500", "prediction": "yes"},
            {"questionId": "0501", "prediction": "Green"},
            {"questionId": "0502", "prediction": "yes"},
        ],
        200 / 3,
    ),
}


def without_images(root: Path) -> Path:
    for name in IMAGE_FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
    assert not [*root.rglob("*.jpg"), *root.rglob("*.png")]
    return root


def write_file(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(palitune, ["eval", *map(str, arguments)])


def score_file(task: str, root: Path, content: Any, *options: object) -> Result:
    """Score `content` against the data in `root`; the scores go to root/out."""
    path = write_file(root / "given.json", content)
    settings = ("--task", task, "--data_root", root, "--predictions", path)
    return run(*settings, "--output_dir", root / "out", *options)


def metrics_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "out/metrics.json").read_text())  # type: ignore[no-any-return]


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
    monkeypatch.setattr("tasks.metrics.captioning.shutil.which", lambda _: None)
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
    monkeypatch.setattr("tasks.metrics.captioning.shutil.which", lambda _: None)
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


def test_lenient_figures_stand_beside_the_official_one(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    result = score_file("vqav2", root, ANSWERS["vqav2"][1], "--lenient")
    content = metrics_of(root)
    assert content["metrics"] == {"vqa_accuracy": pytest.approx(190 / 3)}
    # min(n / 3, 1) of 1, 7 and 2 of ten; the answers differ, so all is normalised anyway
    assert content["lenient"] == {
        "vqa_accuracy_always_normalized": pytest.approx(190 / 3),
        "vqa_accuracy_plain": pytest.approx(100 * (1 / 3 + 1 + 2 / 3) / 3),
    }
    assert "lenient, which are not the official figures" in result.output


def test_lenient_anls_has_no_threshold(tmp_path: Path) -> None:
    root = write_docvqa(tmp_path)
    answers = [{"questionId": i, "answer": "red"} for i in (500, 501, 502)]
    score_file("docvqa", root, answers, "--lenient")
    # red: 1; to green 3 of 5 letters differ, "red paper" is no answer to it: 2/5; to blue 3 of 4
    # differ, but of "blue paper" 7 of 10: 3/10
    content = metrics_of(root)
    assert content["value"] == pytest.approx(1 / 3)
    expected = 1 + max(2 / 5, similarity("red", "green paper")) + similarity("red", "blue paper")
    assert content["lenient"]["anls_without_threshold"] == pytest.approx(expected / 3)


def similarity(a: str, b: str) -> float:
    """One minus the edit distance over the longer length, by the recursion itself."""

    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        substitution = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(substitution, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return 1 - distance(len(a), len(b)) / max(len(a), len(b))


@pytest.mark.parametrize("split", ["test", "test-dev"])
def test_a_withheld_split_gets_its_leaderboard_file_and_no_score(
    split: str, tmp_path: Path
) -> None:
    root = without_images(write_vqav2(tmp_path))
    ids = [900000, 901000] if split == "test" else [900000]
    answers = [{"question_id": i, "answer": f"a{i}"} for i in ids]
    result = score_file("vqav2", root, answers, "--split", split)
    assert result.exit_code == 0, result.output
    assert metrics_of(root)["value"] is None
    subtype = {"test": "test2015", "test-dev": "test-dev2015"}[split]
    path = root / f"out/v2_OpenEnded_mscoco_{subtype}_palitune_results.json"
    assert json.loads(path.read_text()) == answers
    assert str(path) in result.output


def test_part_of_a_withheld_split_gets_none(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    answers = [{"question_id": 900000, "answer": "a"}]
    result = score_file("vqav2", root, answers, "--split", "test", "--allow_partial")
    assert result.exit_code == 0, result.output
    assert "the leaderboard takes the whole split, and 1 of its 2" in result.output
    assert not [*(root / "out").glob("v2_*")]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--task", "vqav2"], "either --model_path"),
        (["--task", "vqav2", "--model_path", "tiny", "--predictions", "x"], "either --model_path"),
        (
            ["--task", "vqav2", "--predictions", "x", "--num_beams", "2", "--dtype", "bf16"],
            "--dtype and --num_beams would change nothing",
        ),
        (
            ["--task", "vqav2", "--predictions", "x", "--submission", "--max_eval_samples", "2"],
            "leave out --max_eval_samples",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], part: str, tmp_path: Path
) -> None:
    result = run(*options, "--data_root", write_vqav2(tmp_path))
    assert part in sentence(result.exit_code, result.output)


def test_the_predictions_themselves_are_not_written_over(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    path = root / "predictions.jsonl"
    path.write_text('{"id": 500000, "prediction": "x"}\n')
    result = run(
        *("--task", "vqav2", "--data_root", root, "--predictions", path, "--output_dir", root)
    )
    assert "choose another folder" in sentence(result.exit_code, result.output)
    assert path.read_text() == '{"id": 500000, "prediction": "x"}\n'


def test_the_scores_say_what_they_stand_on(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    score_file("vqav2", root, ANSWERS["vqav2"][1], "--seed", 3)
    entry = metrics_of(root)["provenance"]
    given = (root / "given.json").read_bytes()
    assert entry["predictions_sha256"] == hashlib.sha256(given).hexdigest()
    assert "leave-one-out" in entry["rule"] and "vqaEval.py" in entry["rule_source"]
    assert (entry["data"]["split"], entry["data"]["num_examples"]) == ("val", 3)
    assert entry["seed"] == 3
    assert entry["versions"]["Levenshtein"][0].isdigit()


def test_other_references_give_another_data_fingerprint(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    path = root / "v2_mscoco_val2014_annotations.json"
    fingerprints = []
    for answer in ("dark", "black"):
        content = json.loads(path.read_text())
        content["annotations"][0]["answers"][9]["answer"] = answer
        path.write_text(json.dumps(content))
        score_file("vqav2", root, ANSWERS["vqav2"][1])
        fingerprints.append(metrics_of(root)["provenance"]["data"]["fingerprint"])
    assert fingerprints[0] != fingerprints[1]


def test_a_part_that_the_file_lacks_is_one_sentence(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    drawn = get_task("vqav2").load("val", Source(data_root=root)).subset(1, seed=0)[0]
    answers = [a for a in ANSWERS["vqav2"][1] if a["question_id"] != drawn.example_id]
    result = score_file("vqav2", root, answers, "--allow_partial", "--max_eval_samples", 1)
    assert "none of the 1 examples" in sentence(result.exit_code, result.output)


def test_without_a_folder_given_the_scores_go_beside_the_file(tmp_path: Path) -> None:
    root = write_vqav2(tmp_path)
    path = write_file(root / "given.json", ANSWERS["vqav2"][1])
    settings = ("--task", "vqav2", "--data_root", root, "--predictions")
    result = run(*settings, path)
    assert result.exit_code == 0, result.output
    assert (root / "given_scores/metrics.json").is_file()
    result = run(*settings, root / "given_scores")  # a folder stands for its predictions.jsonl
    assert result.exit_code == 0, result.output
    assert (root / "given_scores/predictions_scores/metrics.json").is_file()


@pytest.mark.parametrize("trained_on", ["gqa", "vqav2"])
def test_karpathys_test_images_in_training_data_are_warned_of(
    trained_on: str, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "x.json", [])
    report = Report(
        task=get_task("coco_captioning"),
        split="karpathy_test",
        examples=(),
        prompts=(),
        raw_predictions=(),
        predictions=(),
    )
    noted = with_provenance(report, 0, {**of_file(path), "trained_on": [trained_on]})
    assert [f"trained on {trained_on}" in note for note in noted.all_notes] == [True]
    assert with_provenance(report, 0, {"trained_on": ["docvqa"]}).all_notes == ()


def test_images_of_withheld_and_document_splits_are_not_warned_of() -> None:
    everything = ["vqav2", "gqa", "coco_captioning", "docvqa"]
    assert overlap_notes("coco_captioning", "test", everything) == ()
    assert overlap_notes("docvqa", "val", everything) == ()
    assert len(overlap_notes("vqav2", "val", [*everything, *everything])) == 2


def test_text_metrics_stand_beside_the_official_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.metrics.captioning.shutil.which", lambda _: None)
    root = write_docvqa(tmp_path)
    # the first is one reference but for its case, the second is one; the third is nothing like it
    texts = ["red", "green paper", "x"]
    answers = [{"questionId": 500 + i, "answer": text} for i, text in enumerate(texts)]
    result = score_file("docvqa", root, answers, "--text_metrics")
    assert result.exit_code == 0, result.output
    content = metrics_of(root)
    assert list(content["metrics"]) == ["anls", "accuracy"]
    figures = content["text_metrics"]
    assert figures["exact_match"] == pytest.approx(1 / 3)
    assert figures["rougeL"] == pytest.approx(2 / 3)  # lower case on both sides
    assert figures["METEOR"] is None
    assert any("METEOR: Java was not found" in note for note in content["notes"])
    assert any("approximate" in note for note in content["notes"])
    assert "tok:13a" in content["sacrebleu_signature"]
    statistics = content["token_statistics"]
    assert statistics["predictions"]["num_texts"] == 3
    assert statistics["predictions"]["vocabulary_size"] == 4
    assert statistics["references"]["num_texts"] == 6
    assert "text_metrics, which are not the official figures" in result.output


def test_clip_scores_read_the_images_and_name_the_model(tmp_path: Path) -> None:
    import torch

    from models.clip import load_clip

    (tmp_path / "clip").mkdir()
    clip = make_clip(tmp_path / "clip")
    root = write_docvqa(tmp_path / "data")
    texts = ["red page", "green", "blue thing"]
    answers = [{"questionId": 500 + i, "answer": text} for i, text in enumerate(texts)]
    result = score_file("docvqa", root, answers, "--clip_model", clip)
    assert result.exit_code == 0, result.output
    content = metrics_of(root)
    scorer = load_clip(str(clip), device="cpu")
    pictures = [e.image for e in get_task("docvqa").load("val", Source(data_root=root))]
    cosines = [
        torch.cosine_similarity(scorer.embed_images([picture]), scorer.embed_texts([text])).item()
        for picture, text in zip(pictures, texts, strict=True)
    ]
    expected = sum(2.5 * max(0.0, cosine) for cosine in cosines) / 3
    assert content["clip_metrics"]["CLIP-S"] == pytest.approx(expected, abs=1e-5)
    assert content["clip_metrics"]["RefCLIP-S"] is not None
    assert content["clip_model"] == str(clip)
