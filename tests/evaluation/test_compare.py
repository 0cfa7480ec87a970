"""Two evaluations are compared example by example; the figures are worked by hand."""

import codecs
import itertools
import json
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from click.testing import CliRunner, Result

from palitune.main import palitune
from tasks.base import Source
from tasks.registry import get_task
from tasks.report import evaluate
from tasks.report_files import write_report
from tests.official_files import write_docvqa

VQA = {"task": "vqav2", "split": "val", "metric": "vqa_accuracy"}
SCORES_A = {1: 0.0, 2: 100.0, 3: 30.0, 4: 60.0}  # mean 190 / 4 = 47.5
SCORES_B = {4: 90.0, 3: 30.0, 2: 60.0, 1: 100.0}  # mean 280 / 4 = 70; +100, -40, 0, +30


def row(example_id: int | str, score: float | None, **others: Any) -> dict[str, Any]:
    return {
        "id": example_id,
        "prompt": None,
        "raw_prediction": f" answer {example_id} ",
        "prediction": f"answer {example_id}",
        "references": ["yes", "yes", "no"],
        "score": score,
        **others,
    }


def write(
    folder: Path, rows: Sequence[dict[str, Any]], measured: dict[str, Any] | None = None
) -> Path:
    folder.mkdir()
    path = folder / "predictions.jsonl"
    lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in rows)
    path.write_text("".join(lines), encoding="utf-8")
    if measured:
        (folder / "metrics.json").write_text(json.dumps({**measured, "metrics": {}}))
    return path


def write_scores(folder: Path, scores: dict[int, float | None], **others: Any) -> Path:
    return write(folder, [row(*item) for item in scores.items()], **others)


def invoke(a: Path, b: Path, *options: str, columns: int = 100) -> Result:
    arguments = ["compare", str(a), str(b), *options]
    return CliRunner().invoke(palitune, arguments, env={"COLUMNS": str(columns)})


def compared(a: Path, b: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What --output holds, and what is shown."""
    output = a.parent.parent / "comparison.json"
    result = invoke(a, b, "--output", str(output), *options)
    assert result.exit_code == 0, result.output
    return json.loads(output.read_text(encoding="utf-8")), result.stdout


def refusal(a: Path, b: Path, *options: str) -> str:
    result = invoke(a, b, *options)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    error = result.stderr[result.stderr.index("Error: ") :]
    assert error.count("\n") == 1 and error.endswith(".\n")
    return error


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "a", dict(SCORES_A))


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "b", dict(SCORES_B))


def test_examples_are_paired_by_id_and_the_difference_has_its_own_error(a: Path, b: Path) -> None:
    content, _ = compared(a, b)
    assert content["num_examples"] == 4
    assert content["means"] == [47.5, 70.0]
    assert content["difference"] == 22.5
    # deviations 77.5, -62.5, -22.5 and 7.5; their squares sum to 10475; / (4 - 1) / 4
    assert content["uncertainty"]["standard_error"] == pytest.approx(sqrt(10475 / 12))
    assert (content["num_rose"], content["num_fell"], content["num_stayed"]) == (2, 1, 1)


def test_the_interval_is_that_over_all_resamples_of_the_differences(a: Path, b: Path) -> None:
    content, _ = compared(a, b, "--seed", "3")
    resamples = itertools.product([100, -40, 0, 30], repeat=4)  # all 256, equally likely
    means = sorted(fmean(resample) for resample in resamples)
    expected = [means[6], means[249]]  # 6.4 of them are 2.5 %
    assert content["uncertainty"]["interval_95"] == pytest.approx(expected, abs=0.01)
    assert content["uncertainty"]["seed"] == 3


def test_the_same_command_gives_the_same_bytes(a: Path, b: Path, tmp_path: Path) -> None:
    files = [tmp_path / "first.json", tmp_path / "new folder" / "second.json"]
    shown = {invoke(a, b, "--output", str(file)).output for file in files}
    assert len(shown) == 1
    assert files[0].read_bytes() == files[1].read_bytes() != b""


def test_what_is_shown_is_what_is_written(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", dict(SCORES_A), measured=VQA)
    b = write_scores(tmp_path / "b", dict(SCORES_B), measured=VQA)
    content, shown = compared(a, b)
    assert {name: content[name] for name in VQA} == VQA
    lines = shown.splitlines()
    assert lines[0] == "vqav2, val, vqa_accuracy, 4 examples"
    assert lines[1].split() == ["A", "47.5", str(a)]
    assert lines[2].split() == ["B", "70", str(b)]
    lower, upper = content["uncertainty"]["interval_95"]
    # the root of 10475 / 12 is 29.545
    assert lines[3].split(maxsplit=3)[3] == (
        f"+22.5     standard error 29.55, 95 %: {lower:+.4g} to {upper:+.4g}"
    )
    assert lines[4].split() == ["2", "rose,", "1", "fell,", "1", "stayed"]
    assert lines[6:9] == [
        "Rose most:",
        "  1: 0 -> 100  of 'yes' | 'no'",
        "    'answer 1' -> 'answer 1'",
    ]
    assert lines[12:14] == ["Fell most:", "  2: 100 -> 60  of 'yes' | 'no'"]


def test_the_greatest_changes_come_first_and_equal_ones_in_the_order_of_a(tmp_path: Path) -> None:
    scores = {7: (0, 30), 5: (0, 60), 6: (40, 100), 1: (9, 0), 2: (50, 0), 3: (50, 0), 4: (1, 1)}
    a = write(tmp_path / "a", [row(key, pair[0]) for key, pair in scores.items()])
    b = write(tmp_path / "b", [row(key, pair[1], prediction="new") for key, pair in scores.items()])
    content, _ = compared(a, b)
    assert [change["id"] for change in content["rose_most"]] == [5, 6, 7]
    assert [change["id"] for change in content["fell_most"]] == [2, 3, 1]
    assert content["rose_most"][0] == {
        "id": 5,
        "scores": [0.0, 60.0],
        "difference": 60.0,
        "predictions": ["answer 5", "new"],
        "references": ["yes", "yes", "no"],
    }
    fewer, shown = compared(a, b, "--num_changes", "2")
    assert [change["id"] for change in fewer["rose_most"]] == [5, 6]
    assert [change["id"] for change in fewer["fell_most"]] == [2, 3]
    assert (fewer["num_rose"], fewer["num_fell"]) == (3, 3)
    assert "6: 40 -> 100" in shown and "7: 0 -> 30" not in shown


def test_ten_changes_each_way_are_shown_unless_asked(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [row(number, number % 2) for number in range(40)])
    b = write(tmp_path / "b", [row(number, 1 - number % 2) for number in range(40)])
    content, shown = compared(a, b)
    assert (len(content["rose_most"]), len(content["fell_most"])) == (10, 10)
    assert (shown.count(": 0 -> 1 "), shown.count(": 1 -> 0 ")) == (10, 10)
    _, shown = compared(a, b, "--num_changes", "0")
    assert "most" not in shown


def test_a_folder_stands_for_the_file_in_it(a: Path, b: Path) -> None:
    assert compared(a.parent, b)[0] == compared(a, b.parent)[0] == compared(a, b)[0]


def test_examples_without_a_score_are_left_out(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", {1: 10.0, 2: None, 3: 50.0, 4: None, 5: 1.0})
    b = write_scores(tmp_path / "b", {1: 30.0, 2: None, 3: 50.0, 4: 7.0, 5: None})
    content, shown = compared(a, b)
    assert (content["num_examples"], content["means"]) == (2, [30.0, 40.0])
    assert content["notes"] == ["Left out, without a score: 3."]
    assert content["notes"][0] in shown


def test_files_without_any_common_score_are_refused(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", {1: None, 2: 5.0})
    b = write_scores(tmp_path / "b", {1: None, 2: None})
    assert f"No example has a score in both {a} and {b};" in refusal(a, b)


def test_equal_differences_have_an_interval_that_is_not_empty(tmp_path: Path) -> None:
    wrong, right = dict.fromkeys(range(5), 0.0), dict.fromkeys(range(5), 100.0)
    a, same, b = (
        write_scores(tmp_path / name, dict(scores), measured=VQA)
        for name, scores in (("a", wrong), ("same", wrong), ("b", right))
    )
    # of 5 alike: 1 - 0.025 ** (1 / 5) = 0.52182 of them may differ, by 100 or by 200
    content, _ = compared(a, same)
    assert content["uncertainty"]["interval_95"] == pytest.approx([-52.182, 52.182], abs=1e-3)
    content, shown = compared(a, b)
    assert content["uncertainty"]["interval_95"] == pytest.approx([-4.364, 100], abs=1e-3)
    assert content["notes"] == []
    assert "standard error 0, 95 %: -4.36" in shown and " to +100\n" in shown
    # without a metrics.json nothing bounds them, and that is said
    for place in (a, b):
        place.with_name("metrics.json").unlink()
    content, shown = compared(a, b)
    (note,) = content["notes"]
    assert note.startswith("All differences are equal and the metric's range is not known")
    assert note in shown


def test_one_example_has_a_difference_and_no_error(tmp_path: Path) -> None:
    a, b = (write_scores(tmp_path / name, {1: score}) for name, score in (("a", 1.0), ("b", 0.5)))
    content, shown = compared(a, b)
    assert content["difference"] == -0.5
    assert content["uncertainty"]["standard_error"] is content["uncertainty"]["interval_95"] is None
    assert "-0.5      no standard error from one example" in shown


def test_files_of_different_examples_are_refused_with_some_of_them(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", dict.fromkeys([1, 2, 3, 90], 1.0))
    b = write_scores(tmp_path / "b", dict.fromkeys([1, 2, 10, 11, 12, 13], 1.0))
    error = refusal(a, b)
    assert "6 examples are in only one of" in error  # 3 and 90; 10, 11, 12 and 13
    assert ": 3, 90, 10, 11, 12, …;" in error and "--allow_partial" in error


def test_what_both_files_have_is_compared_where_that_is_asked_for(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", {1: 10.0, 2: 20.0, 3: 99.0})
    b = write_scores(tmp_path / "b", {2: 40.0, 1: 20.0, 8: 99.0, 9: 99.0})
    content, shown = compared(a, b, "--allow_partial")
    assert (content["num_examples"], content["means"]) == (2, [15.0, 30.0])
    assert content["notes"] == ["Left out, in only one of the files: 3."]
    assert content["notes"][0] in shown


def test_files_with_no_example_in_common_are_refused_in_any_case(tmp_path: Path) -> None:
    a, b = (write_scores(tmp_path / name, {key: 1.0}) for name, key in (("a", 1), ("b", 2)))
    assert "No example has a score in both" in refusal(a, b, "--allow_partial")


def test_scores_against_different_references_are_refused(a: Path, tmp_path: Path) -> None:
    rows = [row(key, score) for key, score in SCORES_B.items()]
    rows[1]["references"] = ["yes", "no", "yes"]
    error = refusal(a, write(tmp_path / "other", rows))
    assert "1 examples have different references in" in error and ": 3;" in error


@pytest.mark.parametrize(
    "other", [{"task": "docvqa"}, {"split": "val_all"}, {"metric": "accuracy"}]
)
def test_evaluations_of_different_things_are_refused(other: dict[str, str], tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", dict(SCORES_A), measured=VQA)
    b = write_scores(tmp_path / "b", dict(SCORES_B), measured={**VQA, **other})
    error = refusal(a, b)
    assert "is of vqav2, val, vqa_accuracy but" in error
    assert "of {task}, {split}, {metric};".format(**{**VQA, **other}) in error


def test_the_metric_is_named_where_only_one_file_tells_it(b: Path, tmp_path: Path) -> None:
    a = write_scores(tmp_path / "measured", dict(SCORES_A), measured=VQA)
    assert compared(a, b)[1].startswith("vqav2, val, vqa_accuracy, 4 examples\n")


def test_without_metrics_files_only_the_number_of_examples_is_named(a: Path, b: Path) -> None:
    content, shown = compared(a, b)
    assert shown.startswith("4 examples\n")
    assert "metric" not in content


def test_of_cider_it_is_said_that_it_depends_on_the_set(tmp_path: Path) -> None:
    captions = {"task": "coco_captioning", "split": "val", "metric": "CIDEr"}
    note = "An image's CIDEr depends on the set evaluated: only equal sets compare."
    for name, measured in (("captions", captions), ("questions", VQA)):
        (tmp_path / name).mkdir()
        a = write_scores(tmp_path / name / "a", dict(SCORES_A), measured=measured)
        b = write_scores(tmp_path / name / "b", dict(SCORES_B), measured=measured)
        content, shown = compared(a, b)
        assert content["notes"] == ([note] if measured is captions else [])
        assert (note in shown) == (measured is captions)


def without_score(line: bytes) -> bytes:
    return line.replace(b'"score"', b'"points"')


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda line: line[: len(line) // 2], "truncated"),
        (lambda line: b"[1, 2]", "Expected `object`, got `array`"),
        (lambda line: b"id,prediction", "malformed"),
        (without_score, "missing required field `score`"),
        (lambda line: line.replace(b"100.0", b'"100"'), "$.score"),
        (lambda line: line.replace(b"100.0", b"NaN"), "malformed"),
        (lambda line: line.replace(b"answer", b"\xff\xfe"), "utf-8"),
        (lambda line: line.replace(b'"id": 2', b'"id": 1'), "id 1 a second time"),
    ],
)
def test_a_broken_line_is_named(
    change: Callable[[bytes], bytes], reason: str, a: Path, b: Path
) -> None:
    lines = a.read_bytes().splitlines()
    lines[1] = change(lines[1])
    a.write_bytes(b"\n".join(lines))
    for error in (refusal(a, b), refusal(b, a)):
        assert f"{a}, line 2," in error and reason in error


def test_a_broken_metrics_file_is_named(a: Path, b: Path) -> None:
    (b.parent / "metrics.json").write_text('{"task": "vqav2"}')
    error = refusal(a, b)
    assert f"{b.parent / 'metrics.json'} is not as eval.py wrote it" in error


def test_a_file_that_is_not_there_is_named(a: Path, tmp_path: Path) -> None:
    assert f"{tmp_path / 'absent'} cannot be read" in refusal(a, tmp_path / "absent")
    assert f"{tmp_path} is no evaluation" in refusal(tmp_path, a)


def test_an_output_that_cannot_be_written_is_named(a: Path, b: Path) -> None:
    assert str(b) in refusal(a, b, "--output", str(b / "comparison.json"))


def test_what_windows_editors_leave_does_not_count(a: Path, b: Path) -> None:
    expected = compared(a, b)[0]
    a.write_bytes(codecs.BOM_UTF8 + a.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert compared(a, b)[0] == expected


def test_separators_within_a_text_do_not_end_its_line(tmp_path: Path) -> None:
    rows = [row("a", 1.0, prediction="one\u2028two\x85three"), row("b", 0.0)]
    path = write(tmp_path / "a", rows)
    assert compared(path, path)[0]["num_stayed"] == 2


def test_texts_are_cut_to_the_terminal_and_cannot_steer_it(tmp_path: Path) -> None:
    long = {"prediction": "\x1b[31mred\n" + "long " * 50, "references": ["word " * 60] * 2}
    a = write(tmp_path / "a", [row(1, 0.0, **long), row(2, 1.0)])
    b = write(tmp_path / "b", [row(1, 1.0, **{**long, "prediction": ""}), row(2, 1.0)])
    shown = invoke(a, b, columns=60).stdout
    changes = shown[shown.index("Rose most:") :].splitlines()
    assert len(changes) == 3 and max(map(len, changes)) <= 60
    assert changes[1].startswith("  1: 0 -> 1  of 'word word") and changes[1].endswith("…")
    assert changes[2].startswith(r"    '\x1b[31mred\nlong") and changes[2].endswith("… -> ''")


def test_files_of_eval_are_read(tmp_path: Path) -> None:
    source = Source(data_root=write_docvqa(tmp_path / "data", num_val=4))
    dataset = get_task("docvqa").load("val", source)
    gold = [example.references[0] for example in dataset]
    for name, answers in (("a", ["", "", "", gold[3]]), ("b", gold)):
        report = evaluate(dataset.task, lambda _, answers=answers: answers, dataset)
        write_report(report, tmp_path / name)
    content, shown = compared(tmp_path / "a" / "predictions.jsonl", tmp_path / "b")
    assert content["means"] == [0.25, 1.0]  # one of four is right
    assert (content["num_rose"], content["num_stayed"]) == (3, 1)
    assert shown.startswith("docvqa, val, anls, 4 examples\n")


def test_a_file_of_the_users_own_stays(a: Path, b: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"files": []}')
    for file in (mine, b, tmp_path):
        before = file.read_bytes() if file.is_file() else b""
        said = refusal(a, b, "--output", str(file))
        assert f"--output {file} is there, was not written by this command and stays" in said
        assert not before or file.read_bytes() == before


def test_answers_that_are_not_those_of_the_metrics_beside_them_are_refused(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a", dict(SCORES_A), measured={**VQA, "num_examples": 5})
    b = write_scores(tmp_path / "b", dict(SCORES_B), measured={**VQA, "num_examples": 4})
    said = refusal(a, b)
    assert f"{a} has 4 examples, and the metrics.json beside it is of 5; copy" in said
    # of a split in part, some of whose questions do not count
    metrics = {**VQA, "num_examples": 3, "num_questions_read": 4, "metrics": {}}
    (tmp_path / "a/metrics.json").write_text(json.dumps(metrics))
    assert compared(a, b)[0]["num_examples"] == 4
