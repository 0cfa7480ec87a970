"""The page of an evaluation: its figures are those of the files, and nothing in it acts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from evaluation.compare import compare
from evaluation.provenance import named_model
from evaluation.report_page import PAGE, join_pages
from tasks.base import Example
from tasks.images import ArrayImage, FileImage
from tasks.metrics import anls, vqa
from tests.evaluation.evaluated import COLORS, example, save, save_pair
from tests.helpers import one_sentence


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    result: dict[str, Any] = json.loads(data)
    return result


def test_the_figures_are_those_of_the_files(tmp_path: Path) -> None:
    a, b = save_pair(tmp_path, 12)
    join_pages([a, b], tmp_path / "ab.html")
    data = data_of(tmp_path / "ab.html")
    for run, place in zip(data["runs"], (a, b), strict=True):
        measured = json.loads((place / "metrics.json").read_text())
        assert run["value"] == measured["value"] == {"A": 100 / 3, "B": 50.0}[run["name"]]
        assert run["interval"] == measured["uncertainty"]["interval_95"]
        assert run["metrics"] == measured["metrics"]
        assert data_of(place / PAGE)["runs"][0]["value"] == measured["value"]
        side = data["runs"].index(run)
        breakdown = {s["kind"]: s["means"][side] for s in data["slices"]}
        assert breakdown == measured["breakdown"]["answer_type"]
    change, expected = data["runs"][1]["change"], compare(a, b)
    assert change["difference"] == expected["difference"]
    assert tuple(change["interval"]) == expected["uncertainty"]["interval_95"]
    # of 0 to 11 A has 0 3 6 9 and B has 0 2 4 6 8 10
    assert [change[f"num_{what}"] for what in ("rose", "fell", "stayed")] == [4, 2, 6]
    # by hand: of the even ones A has two of six and B all, of the odd ones A has two and B none
    assert [(s["kind"], s["n"], s["difference"]) for s in data["slices"]] == [
        ("number", 6, pytest.approx(100 * 4 / 6)),
        ("other", 6, pytest.approx(-100 * 2 / 6)),
    ]
    assert data["runs"][1]["frequent"][0] == ["none", 6]
    assert dict(data["reference_lengths"])["1"] == 120


def test_a_slice_of_equal_scores_has_the_exact_interval(tmp_path: Path) -> None:
    a, b = save_pair(tmp_path, 12)
    page = join_pages([a, b], tmp_path / "ab.html")
    number, other = page.slices
    # B is right on all six even questions and on no odd one: 1 - 0.025 ** (1 / 6) = 0.45926
    assert (number.means[1], other.means[1]) == (100, 0)
    assert number.intervals[1] == pytest.approx((54.074, 100), abs=1e-3)
    assert other.intervals[1] == pytest.approx((0, 45.926), abs=1e-3)
    same = join_pages([b, b], tmp_path / "bb.html")
    assert same.slices[0].difference_interval == pytest.approx((-45.926, 45.926), abs=1e-3)
    # all twelve: 1 - 0.025 ** (1 / 12) = 0.26465
    change = same.runs[1].change
    assert change is not None and change.interval == pytest.approx((-26.465, 26.465), abs=1e-3)


BASE = {"base_model": "/work/models/tiny", "adapter": None, "trained_on": []}
SNAPSHOT = "/cache/hub/models--me--of-parts/snapshots/0a1b"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (BASE, "base tiny"),
        ({**BASE, "base_model": "google/paligemma-3b-pt-224"}, "base google/paligemma-3b-pt-224"),
        ({**BASE, "adapter": "runs/parts", "trained_on": ["csv_qa"]}, "tiny + runs/parts"),
        ({**BASE, "adapter": "/elsewhere/runs/parts"}, "tiny + runs/parts"),
        ({**BASE, "adapter": str(Path.cwd() / "out/runs/parts")}, "tiny + out/runs/parts"),
        ({**BASE, "adapter": SNAPSHOT}, "tiny + me/of-parts"),
        ({**BASE, "base_model": "out/full", "trained_on": ["gqa"]}, "fine-tuned out/full"),
        (
            {"predictions_file": "answers.csv", "predictions_sha256": "0"},
            "answers from answers.csv",
        ),
        ({}, ""),
    ],
)
def test_what_answered_is_said_in_a_few_words(origin: dict[str, Any], expected: str) -> None:
    assert named_model(origin) == expected


def test_an_example_has_what_was_sent_what_came_back_and_how_it_was_scored(tmp_path: Path) -> None:
    asked = example(0, "which?", *("orange",) * 8, "tan", "red")
    save(tmp_path / "A", ["orange"], [asked])
    (row,) = data_of(tmp_path / "A" / PAGE)["rows"]
    assert row["references"] == [["orange", 8], ["tan", 1], ["red", 1]]
    (answer,) = row["answers"]
    assert answer["prompt"] == "answer en which?"
    assert (answer["raw"], answer["prediction"], answer["score"]) == (" orange\n", "orange", 100.0)
    assert answer["working"] == [
        'the answers differ, so all are normalised: "orange"',
        "8 of 10 answers equal it: (8 * min(7, 3) / 3 + 2 * min(8, 3) / 3) / 10 = 100 %",
    ]


def test_the_working_is_the_arithmetic_of_the_score() -> None:
    two = ["yes", "yes", *["no"] * 8]
    # 2 of 10: (2 * 1/3 + 8 * 2/3) / 10 = 18/30
    assert vqa.explain("Yes.", two)[1].endswith(
        "(2 * min(1, 3) / 3 + 8 * min(2, 3) / 3) / 10 = 60 %"
    )
    assert vqa.explain("No", ["no"] * 10) == [
        'the answers are alike, so they are compared exactly: "No"',
        "0 of 10 answers equal it: (10 * min(0, 3) / 3) / 10 = 0 %",
    ]
    # "kitten" -> "sitting" is the classic distance of 3
    assert anls.explain("sitting", ["kitten", "dog"]) == [
        'nearest answer "kitten": 3 edits over 7 characters, similarity 0.5714 counts '
        "(threshold 0.5)"
    ]
    assert "is under the threshold and scores 0" in anls.explain("zzzz", ["dog"])[0]


def test_images_are_inside_once_and_under_the_budget(tmp_path: Path) -> None:
    examples = [example(number) for number in range(9)]
    save(tmp_path / "all", ["red"] * 9, examples)
    data = data_of(tmp_path / "all" / PAGE)
    assert len(data["images"]) == len(COLORS)
    assert [row["image"] for row in data["rows"]] == [0, 1, 2] * 3
    one = len(data["images"][0]) * 1.5 / 1e6
    save(tmp_path / "one", ["red"] * 9, examples, images_budget=one)
    data = data_of(tmp_path / "one" / PAGE)
    assert len(data["images"]) == 1
    assert "Images of 8 examples are not inside this page." in data["notes"]
    unseen = [replace(e, image=ArrayImage(None, "never opened")) for e in examples]
    save(tmp_path / "none", ["red"] * 9, unseen, images_budget=0)
    assert data_of(tmp_path / "none" / PAGE)["images"] == []


def test_nothing_in_a_text_ends_the_data(tmp_path: Path) -> None:
    evil = "</script><script>window.hacked = 1</script><!--"
    save(tmp_path / "A", [evil], [example(0, evil, *(evil,) * 10)])
    text = (tmp_path / "A" / PAGE).read_text("utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    assert data_of(tmp_path / "A" / PAGE)["rows"][0]["question"] == evil


def test_a_joined_page_takes_the_images_of_each_and_finds_the_evaluation_of_a_run(
    tmp_path: Path,
) -> None:
    a, _ = save_pair(tmp_path, 3)
    save(tmp_path / "run/evaluation/val", ["red"] * 3, [example(n) for n in range(3)])
    page = join_pages([a, tmp_path / "run"], tmp_path / "ab.html")
    assert len(page.images) == len(COLORS)
    join_pages([a], tmp_path / "ab.html")  # a page is written anew
    assert len(data_of(tmp_path / "ab.html")["runs"]) == 1


def other_examples(folder: Path) -> list[Path]:
    save(folder / "other", ["red"], [example(7)])
    return [folder / "A", folder / "other"]


def other_references(folder: Path) -> list[Path]:
    others: list[Example] = [example(n, "", *("grey",) * 10) for n in range(3)]
    save(folder / "other", ["red"] * 3, others)
    return [folder / "A", folder / "other"]


def without_metrics(folder: Path) -> list[Path]:
    (folder / "A/metrics.json").unlink()
    return [folder / "A"]


def cut_short(folder: Path) -> list[Path]:
    file = folder / "A/predictions.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    return [folder / "A"]


def no_evaluation(folder: Path) -> list[Path]:
    (folder / "empty").mkdir()
    return [folder / "empty"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_examples, "in only one of"),
        (other_references, "have different references"),
        (without_metrics, "metrics.json is missing"),
        (cut_short, "has 2 examples, and the metrics.json beside it is of 3; copy"),
        (no_evaluation, "is no evaluation"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(spoil: Any, words: str, tmp_path: Path) -> None:
    save_pair(tmp_path, 3)
    with one_sentence(words):
        join_pages(spoil(tmp_path), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_file_that_is_no_report_stays(tmp_path: Path) -> None:
    a, _ = save_pair(tmp_path, 3)
    mine = tmp_path / "mine.html"
    mine.write_text("my own page")
    with one_sentence("is no report"):
        join_pages([a], mine)
    assert mine.read_text() == "my own page"


def test_the_original_is_linked_by_a_relative_path_that_can_only_be_a_path(tmp_path: Path) -> None:
    path = tmp_path / "images" / "javascript:alert(1).png"
    path.parent.mkdir()
    example(0).image.open().save(path)
    save(tmp_path / "A", ["red"], [replace(example(0), image=FileImage(str(path)))])
    (row,) = data_of(tmp_path / "A" / PAGE)["rows"]
    assert row["file"] == "../images/javascript%3Aalert%281%29.png"


def test_what_only_some_have_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    places = []
    for name, numbers in (("A", range(6)), ("B", range(4)), ("C", range(2, 6))):
        examples = [example(n) for n in numbers]
        save(tmp_path / name, ["red"] * len(examples), examples)
        places.append(tmp_path / name)
    page = join_pages(places, tmp_path / "page.html", allow_partial=True)
    assert [row.id for row in page.rows] == [2, 3]
    (said,) = [note for note in page.notes if note.startswith("Slices and examples below")]
    assert said.startswith("Slices and examples below are the 2 that all have; each score is of")
    whole = join_pages(places[:1] * 2, tmp_path / "page.html", allow_partial=True)
    assert not [note for note in whole.notes if note.startswith("Slices")]


def test_a_page_of_other_answers_gives_no_images(tmp_path: Path) -> None:
    a, _ = save_pair(tmp_path, 3)
    others = [replace(example(n + 1, "which?"), example_id=n) for n in range(3)]
    save(tmp_path / "other", ["none"] * 3, others)
    (a / PAGE).write_bytes((tmp_path / "other" / PAGE).read_bytes())
    page = join_pages([a], tmp_path / "page.html")
    assert page.images == [] and "Images of 3 examples are not inside this page." in page.notes


def test_the_page_that_an_evaluation_wrote_is_not_replaced_by_one_of_another(
    tmp_path: Path,
) -> None:
    a, b = save_pair(tmp_path, 3)
    before = (a / PAGE).read_bytes()
    for places in ([b], [a, b]):
        with one_sentence(f"{a / PAGE} is the page of the evaluation in {a}, whose images"):
            join_pages(places, a / PAGE)
    assert (a / PAGE).read_bytes() == before
    assert len(join_pages([a], a / PAGE).images) == len(COLORS)  # its own may be written anew


def test_the_original_is_found_wherever_the_page_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "images").mkdir(parents=True)
        example(0).image.open().save(tmp_path / name / "images/no 1.png")
    monkeypatch.chdir(tmp_path / "here")
    asked = replace(example(0), image=FileImage("images/no 1.png"))
    save(Path("A"), ["red"], [asked])
    monkeypatch.chdir(tmp_path / "there")
    (row,) = join_pages([Path("../here/A")], Path("page.html")).rows
    assert row.file == "../here/images/no%201.png"
    (tmp_path / "here/A" / PAGE).unlink()
    (row,) = join_pages([Path("../here/A")], Path("page.html")).rows
    assert row.file is None  # and not the image of that name that is here
