"""Evaluations of other data, or by another metric, are neither compared nor shown side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from palitune.main import palitune
from tasks.image_names import are_other_files
from tests.evaluation.evaluated import example, save
from tests.evaluation.test_compare import VQA, compared, refusal, row, write
from tests.helpers import sentence


def write_one(folder: Path, score: float = 0.0, **others: Any) -> Path:
    """Write an evaluation whose first row has these keys, and whose second is always the same."""
    rows = [row(1, score, **others), row(2, 100.0, question="is it?", image="2.png")]
    return write(folder, rows)


@pytest.mark.parametrize(
    ("what", "a", "b"),
    [
        ("questions", {"question": "is it red?"}, {"question": "is it blue?"}),
        ("images", {"image": "north/1.png"}, {"image": "south/3.png"}),
        ("images", {"images": ["1.png", "2.png"]}, {"images": ["1.png", "3.png"]}),
        ("images", {"images": ["1.png", "2.png"]}, {"image": "1.png"}),
    ],
)
def test_other_data_is_refused_though_its_references_are_equal(
    what: str, a: dict[str, Any], b: dict[str, Any], tmp_path: Path
) -> None:
    first, second = write_one(tmp_path / "a", **a), write_one(tmp_path / "b", **b)
    error = refusal(first, second)
    assert f"1 examples have different {what} in {first} and {second}: 1;" in error


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"image": "/data/1.png"}, {"image": "C:\\moved\\1.png"}),
        ({"image": "/data/1.png"}, {"image": "org/copy (val), row 0"}),
        ({"image": "a.csv, line 2"}, {"image": "b.csv, line 2"}),
        ({"image": "1.png", "question": "is it?"}, {}),
        (
            {"question": "is it?", "prompt": "answer en is it?"},
            {"question": "is it?", "prompt": "?"},
        ),
    ],
)
def test_the_same_data_is_compared_from_another_place_and_by_another_prompt(
    a: dict[str, Any], b: dict[str, Any], tmp_path: Path
) -> None:
    content, _ = compared(write_one(tmp_path / "a", **a), write_one(tmp_path / "b", 50.0, **b))
    # 0 and 100, then 50 and 100
    assert (content["means"], content["notes"]) == ([50.0, 75.0], [])


def test_one_question_of_all_may_be_put_in_other_words_and_that_is_said(tmp_path: Path) -> None:
    files = [
        write(tmp_path / name, [row(n, score * n, question=asked) for n in (1, 2)])
        for name, asked, score in (("a", "what is it?", 1.0), ("b", "name it", 2.0))
    ]
    content, shown = compared(*files)
    assert content["notes"] == ["The question of all is 'what is it?' in A and 'name it' in B."]
    assert content["notes"][0] in shown


def scored_by(*entries: tuple[str, str, str]) -> dict[str, Any]:
    """The metrics.json of an evaluation that used these: kind, name and SHA-256."""
    own_code = [
        {"kind": kind, "names": [name], "module": "f.py", "path": "/f.py", "sha256": sha256}
        for kind, name, sha256 in entries
    ]
    return {**VQA, "provenance": {"own_code": own_code} if own_code else {"seed": 0}}


ONE = scored_by(("metric", "good", "1" * 64), ("family", "mine", "5" * 64))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (scored_by(("metric", "good", "2" * 64)), "metric good of SHA-256 222222222222"),
        (scored_by(("task", "good", "1" * 64)), "task good of SHA-256 111111111111"),
        (scored_by(), "no code of your own"),
    ],
)
def test_other_bytes_of_a_metric_or_task_are_another_metric(
    other: dict[str, Any], said: str, tmp_path: Path
) -> None:
    a, b = (
        write(tmp_path / name, [row(1, 1.0), row(2, 0.0)], measured=measured)
        for name, measured in (("a", ONE), ("b", other))
    )
    error = refusal(a, b)
    assert f"{a} was scored by metric good of SHA-256 111111111111 but {b} by {said};" in error


@pytest.mark.parametrize("other", [scored_by(("metric", "good", "1" * 64)), VQA])
def test_the_same_metric_beside_another_family_or_an_unknown_one_is_compared(
    other: dict[str, Any], tmp_path: Path
) -> None:
    a, b = (
        write(tmp_path / name, [row(1, 1.0), row(2, 0.0)], measured=measured)
        for name, measured in (("a", ONE), ("b", other))
    )
    assert compared(a, b)[0]["difference"] == 0


def report_of(tmp_path: Path) -> str:
    places = [str(tmp_path / name) for name in ("a", "b")]
    output = tmp_path / "page.html"
    result = CliRunner().invoke(palitune, ["report", *places, "--output", str(output)])
    assert not output.exists()
    return sentence(result.exit_code, result.output)


def test_a_page_shows_no_answers_under_the_questions_of_others(tmp_path: Path) -> None:
    for name, kind in (("a", "left"), ("b", "right")):
        examples = [example(n, f"is {kind} {n} open?", *["yes"] * 10) for n in range(3)]
        save(tmp_path / name, ["yes"] * 3, examples, images_budget=0)
    assert "3 examples have different questions in" in report_of(tmp_path)


def test_a_page_shows_no_scores_by_other_bytes_of_a_metric(tmp_path: Path) -> None:
    for name, sha256 in (("a", "1" * 64), ("b", "2" * 64)):
        save(tmp_path / name, ["yes"], [example(0)], images_budget=0)
        path = tmp_path / name / "metrics.json"
        scored = scored_by(("metric", "good", sha256))
        path.write_text(json.dumps({**json.loads(path.read_text()), **scored}))
    assert "by metric good of SHA-256 222222222222" in report_of(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([], ["1.png"], False),
        (["a/1.png"], ["b/1.png"], False),
        (["1.png"], ["2.png"], True),
        (["t.tar/1.png"], ["1.png"], False),
        (["v1.5 (val), row 1"], ["v1.5 (val), row 2"], False),
        (["1.png", "2.png"], ["1.png"], True),
    ],
)
def test_images_are_told_apart_by_the_names_of_files(
    one: list[str], other: list[str], expected: bool
) -> None:
    assert are_other_files(one, other) is expected
