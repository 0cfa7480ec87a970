"""COCO Captions: both years, Karpathy's splits, all captions raw, CIDEr over the split."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.metrics import captioning
from tasks.registry import get_task
from tests.helpers import Load, one_sentence
from tests.official_files import COCO_LAYOUTS, coco_captions, write_coco


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", [100, 101, 102, 103]),
        ("karpathy_train", [100, 101, 102, 103, 500]),  # restval is part of it
        ("val", [500, 501, 502]),
        ("karpathy_val", [501]),
        ("karpathy_test", [502]),
        ("test", [900, 901]),
    ],
)
def test_every_split_is_read_in_every_layout(
    tmp_path: Path, load: Load, layout: str, split: str, ids: list[int]
) -> None:
    dataset = load("coco", split, write_coco(tmp_path, layout, karpathy=True))
    assert [example.example_id for example in dataset] == ids
    assert all(example.image.open().size == (24, 16) for example in dataset)


def test_karpathys_file_may_lie_beside_the_annotations(tmp_path: Path, load: Load) -> None:
    write_coco(tmp_path, karpathy=True)
    (tmp_path / "dataset_coco.json").rename(tmp_path / "annotations/dataset_coco.json")
    assert len(load("coco", "karpathy_train", tmp_path)) == 5


@pytest.mark.parametrize("split", ["val", "karpathy_train"])
def test_captions_are_grouped_by_image_and_left_raw(tmp_path: Path, load: Load, split: str) -> None:
    dataset = load("coco", split, write_coco(tmp_path, karpathy=True))
    example = next(e for e in dataset if e.example_id == 500)
    assert example.references == tuple(coco_captions(500))
    assert example.turns[0].text == ""


def test_training_targets_are_stripped(tmp_path: Path, load: Load) -> None:
    example = load("coco", "train", write_coco(tmp_path))[0]
    assert get_task("coco").target(example, 0, 0, "first") == "A red picture."


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_of_two_years_in_one_folder_the_one_with_images_is_read(
    tmp_path: Path, load: Load, year: str
) -> None:
    for layout in ("annotations_2014", "annotations_2017"):
        write_coco(tmp_path, layout)
    shutil.rmtree(tmp_path / f"val{'2017' if year == '2014' else '2014'}")
    assert f"/val{year}/" in load("coco", "val", tmp_path)[0].image.name


def test_an_image_without_caption_is_named(tmp_path: Path, load: Load) -> None:
    path = write_coco(tmp_path) / "annotations/captions_val2014.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 501]
    path.write_text(json.dumps(content))
    with one_sentence(f"{path} has 1 image(s) without a caption: 501"):
        load("coco", "val", tmp_path)


def test_a_caption_of_an_unlisted_image_is_named(tmp_path: Path, load: Load) -> None:
    path = write_coco(tmp_path) / "annotations/captions_val2014.json"
    content = json.loads(path.read_text())
    content["images"].pop(0)
    path.write_text(json.dumps(content))
    with one_sentence(f"{path} has a caption of image 500"):
        load("coco", "val", tmp_path)


def test_scores_are_cider_per_image_and_every_figure_in_the_official_order(
    tmp_path: Path, load: Load
) -> None:
    examples = list(load("coco", "val", write_coco(tmp_path)))
    scores = get_task("coco").score([e.references[0].strip() for e in examples], examples)
    assert list(scores.metrics) == [
        *("CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "SPICE")
    ]
    assert scores.metrics["CIDEr"] == pytest.approx(sum(scores.values) / 3)
    assert scores.metrics["Bleu_1"] == pytest.approx(1)
    assert min(scores.values) > 0


@pytest.mark.usefixtures("no_java")
def test_without_java_the_report_says_that_the_figures_are_approximate(
    tmp_path: Path, load: Load
) -> None:
    examples = list(load("coco", "val", write_coco(tmp_path)))
    scores = get_task("coco").score(["a picture"] * 3, examples)
    assert "approximate" in scores.notes[0]
    assert scores.metrics["METEOR"] is None


def test_captions_are_searched_with_two_beams_as_published() -> None:
    assert get_task("coco").num_beams == 2
    assert get_task("coco").prompt("paligemma") == "caption en"


def test_the_headline_alone_is_the_same_cider_without_the_slow_programs(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = list(load("coco", "val", write_coco(tmp_path)))
    task = get_task("coco")
    predictions = [example.references[0] for example in dataset]
    seen: dict[str, bool] = {}
    right = captioning.caption_scores

    def recorded(*args: Any, **options: bool) -> Any:
        seen.update(options)
        return right(*args, **options)

    monkeypatch.setattr(captioning, "caption_scores", recorded)
    scores = task.score_headline(predictions, dataset)
    assert seen == {"with_meteor": False, "with_spice": False}
    assert scores.metrics["METEOR"] is None and "METEOR" in scores.reasons
    assert scores.metrics["CIDEr"] == pytest.approx(sum(scores.values) / len(dataset))


def test_a_results_file_beside_the_annotations_is_not_taken_for_one(
    tmp_path: Path, load: Load
) -> None:
    write_coco(tmp_path)
    before = [example.example_id for example in load("coco_captioning", "val", tmp_path)]
    (annotations,) = tmp_path.rglob("captions_val2014.json")
    for name in ("captions_val2014_NAME_results.json", "captions_val_mine.json"):
        (annotations.parent / name).write_text('[{"image_id": 1, "caption": "a"}]')
    found = [example.example_id for example in load("coco_captioning", "val", tmp_path)]
    assert found == before
