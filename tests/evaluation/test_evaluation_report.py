"""What a scored file gets beside the official figure: notes, provenance, leaderboard files."""

import hashlib
import json
from pathlib import Path

import pytest

from evaluation.provenance import of_file, with_provenance
from tasks.base import Source
from tasks.overlap import overlap_notes
from tasks.registry import get_task
from tasks.report import Report
from tests.evaluation.answer_files import (
    ANSWERS,
    metrics_of,
    run,
    score_file,
    without_images,
    write_file,
)
from tests.helpers import sentence
from tests.models.test_clip import make_clip
from tests.official_files import write_docvqa, write_vqav2


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
    assert "lenient, beside the task's own figures" in result.output


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
    monkeypatch.setattr("tasks.metrics.java.shutil.which", lambda _: None)
    root = write_docvqa(tmp_path)
    # the first is one reference but for its case, the second is one; the third is nothing like it
    texts = ["red", "green paper", "x"]
    answers = [{"questionId": 500 + i, "answer": text} for i, text in enumerate(texts)]
    result = score_file("docvqa", root, answers, "--text_metrics")
    assert result.exit_code == 0, result.output
    content = metrics_of(root)
    assert list(content["metrics"]) == ["anls", "accuracy"]
    metrics = content["text_metrics"]
    assert metrics["exact_match"] == pytest.approx(1 / 3)
    assert metrics["rougeL"] == pytest.approx(2 / 3)  # lower case on both sides
    assert metrics["METEOR"] is None
    assert any("METEOR: Java was not found" in note for note in content["notes"])
    assert any("approximate" in note for note in content["notes"])
    assert "tok:13a" in content["sacrebleu_signature"]
    statistics = content["token_statistics"]
    assert statistics["predictions"]["num_texts"] == 3
    assert statistics["predictions"]["vocabulary_size"] == 4
    assert statistics["references"]["num_texts"] == 6
    assert "text_metrics, beside the task's own figures" in result.output


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
    images = [e.image for e in get_task("docvqa").load("val", Source(data_root=root))]
    cosines = [
        torch.cosine_similarity(scorer.embed_images([image]), scorer.embed_texts([text])).item()
        for image, text in zip(images, texts, strict=True)
    ]
    expected = sum(2.5 * max(0.0, cosine) for cosine in cosines) / 3
    assert content["clip_metrics"]["CLIP-S"] == pytest.approx(expected, abs=1e-5)
    assert content["clip_metrics"]["RefCLIP-S"] is not None
    assert content["clip_model"] == str(clip)
