"""The embedded data has the official forms."""

import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from synthetic.scenes import CELLS
from tests.tasks.sample.reading import docvqa_records, gqa_file, read, vqa_files, vqa_pairs


def test_every_image_is_64_pixels_and_of_the_official_kind(roots: dict[str, Path]) -> None:
    for name, root in roots.items():
        images = [path for path in root.rglob("*") if path.suffix in (".jpg", ".png")]
        with Image.open(min(images)) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB")
            assert image.format == ("PNG" if name == "docvqa" else "JPEG")
        assert {path.suffix for path in root.rglob("*.*") if path.is_file()} == {
            ".json",
            ".png" if name == "docvqa" else ".jpg",
        }


@pytest.mark.parametrize(("split", "number"), [("train2014", 3000), ("val2014", 300)])
def test_coco_files_have_the_official_form(roots: dict[str, Path], split: str, number: int) -> None:
    root = roots["coco_captioning"]
    content = read(root / f"annotations/captions_{split}.json")
    assert list(content) == ["info", "licenses", "images", "annotations"]
    assert len(content["images"]) == number
    for image in content["images"]:
        assert list(image) == [
            *("license", "file_name", "coco_url", "height", "width"),
            *("date_captured", "flickr_url", "id"),
        ]
        assert image["file_name"] == f"COCO_{split}_{image['id']:012d}.jpg"
    files = {path.name for path in (root / split).iterdir()}
    assert files == {image["file_name"] for image in content["images"]}
    annotations = content["annotations"]
    assert all(list(annotation) == ["image_id", "id", "caption"] for annotation in annotations)
    assert len({annotation["id"] for annotation in annotations}) == 5 * number
    per_image = Counter(annotation["image_id"] for annotation in annotations)
    assert per_image == {image["id"]: 5 for image in content["images"]}
    assert [a["image_id"] for a in annotations] != sorted(a["image_id"] for a in annotations)


@pytest.mark.parametrize(("split", "number"), [("train2014", 3000), ("val2014", 300)])
def test_vqa_files_have_the_official_form(roots: dict[str, Path], split: str, number: int) -> None:
    questions, annotations = vqa_files(roots["vqav2"], split)
    assert list(questions) == [
        *("info", "license", "task_type", "data_type", "data_subtype", "questions")
    ]
    assert list(annotations) == ["info", "license", "data_type", "data_subtype", "annotations"]
    assert questions["task_type"] == "Open-Ended"
    assert questions["data_type"] == annotations["data_type"] == "mscoco"
    assert questions["data_subtype"] == annotations["data_subtype"] == split
    assert len({q["question_id"] for q in questions["questions"]}) == number
    for question in questions["questions"]:
        assert list(question) == ["image_id", "question", "question_id"]
        assert question["question_id"] // 1000 == question["image_id"]
    numbers = Counter(question["question_id"] % 1000 for question in questions["questions"])
    assert 0.1 * number < numbers[1] < 0.3 * number
    images = roots["vqav2"] / "Images" / "mscoco" / split
    assert {path.name for path in images.iterdir()} == {
        f"COCO_{split}_{question['image_id']:012d}.jpg" for question in questions["questions"]
    }


@pytest.mark.parametrize("split", ["train2014", "val2014"])
def test_vqa_annotations_have_ten_answers_with_a_clear_majority(
    roots: dict[str, Path], split: str
) -> None:
    for _, annotation in vqa_pairs(roots["vqav2"], split):
        assert list(annotation) == [
            *("question_id", "image_id", "question_type", "answer_type"),
            *("multiple_choice_answer", "answers"),
        ]
        answers = annotation["answers"]
        assert [answer["answer_id"] for answer in answers] == list(range(1, 11))
        assert {a["answer_confidence"] for a in answers} <= {"yes", "maybe", "no"}
        assert list(answers[0]) == ["answer", "answer_confidence", "answer_id"]
        ((majority, count), *_) = Counter(answer["answer"] for answer in answers).most_common()
        assert majority == annotation["multiple_choice_answer"]
        assert 6 <= count <= 9


@pytest.mark.parametrize(("split", "number"), [("train", 3000), ("val", 300)])
def test_docvqa_files_have_the_official_form(
    roots: dict[str, Path], split: str, number: int
) -> None:
    content = read(roots["docvqa"] / f"spdocvqa_qas/{split}_v1.0_withQT.json")
    assert list(content) == ["dataset_name", "dataset_version", "dataset_split", "data"]
    assert content["dataset_split"] == split
    assert len({record["questionId"] for record in content["data"]}) == number
    official = {"form", "layout", "table/list", "free_text"}
    for record in content["data"]:
        assert list(record) == [
            *("questionId", "question", "question_types", "image", "docId"),
            *("ucsf_document_id", "ucsf_document_page_no", "answers", "data_split"),
        ]
        document, page = record["ucsf_document_id"], record["ucsf_document_page_no"]
        assert record["image"] == f"documents/{document}_{page}.png"
        assert (roots["docvqa"] / f"spdocvqa_images/{document}_{page}.png").is_file()
        assert 1 <= len(record["answers"]) <= 2
        assert record["question_types"] and set(record["question_types"]) <= official
        assert record["data_split"] == split


def test_docvqa_splits_share_no_id(roots: dict[str, Path]) -> None:
    train, held_out = (docvqa_records(roots["docvqa"], split) for split in ("train", "val"))
    for field in ("questionId", "docId", "image"):
        assert not {record[field] for record in train} & {record[field] for record in held_out}


@pytest.mark.parametrize(("stem", "number"), [("train_balanced", 3000), ("testdev_balanced", 300)])
def test_gqa_files_have_the_official_form(roots: dict[str, Path], stem: str, number: int) -> None:
    questions = gqa_file(roots["gqa"], stem)
    assert len(questions) == number
    for key, question in questions.items():
        assert re.fullmatch(r"\d{8}", key)
        assert list(question) == [
            *("semantic", "entailed", "equivalent", "question", "imageId", "isBalanced", "groups"),
            *("answer", "semanticStr", "annotations", "types", "fullAnswer"),
        ]
        assert question["isBalanced"] is True
        assert key in question["entailed"] and key in question["equivalent"]
        assert set(question["groups"]) == {"global", "local"}
        is_query = question["types"]["structural"] == "query"
        assert (question["groups"]["global"] is not None) == is_query
        assert (roots["gqa"] / "images" / f"{question['imageId']}.jpg").is_file()


def test_gqa_programs_depend_on_earlier_steps_and_read_as_their_string(
    roots: dict[str, Path],
) -> None:
    for question in gqa_file(roots["gqa"], "testdev_all").values():
        steps = []
        for position, step in enumerate(question["semantic"]):
            assert list(step) == ["operation", "argument", "dependencies"]
            assert all(0 <= index < position for index in step["dependencies"])
            assert (step["operation"] == "select") == (not step["dependencies"])
            after = f" [{','.join(map(str, step['dependencies']))}]" if step["dependencies"] else ""
            steps.append(f"{step['operation']}: {step['argument']}{after}")
        assert question["semanticStr"] == "->".join(steps)
        # every step but the last is used by a later one
        used = {index for step in question["semantic"] for index in step["dependencies"]}
        assert used == set(range(len(steps) - 1))


def test_gqa_annotations_point_at_the_words_for_an_object(roots: dict[str, Path]) -> None:
    for question in gqa_file(roots["gqa"], "testdev_all").values():
        text = question["question"]
        objects = set(re.findall(r"\d{6,}", question["semanticStr"]))
        for span, object_id in question["annotations"]["question"].items():
            start, end = map(int, span.split(":"))
            cell = " ".join(re.sub("[?]", "", text).split()[start:end])
            assert CELLS.index(cell) == int(object_id[-1])
            assert object_id in objects


def test_gqa_choices_hold_every_answer(roots: dict[str, Path]) -> None:
    choices = read(roots["gqa"] / "questions1.2" / "testdev_choices.json")
    questions = gqa_file(roots["gqa"], "testdev_all")
    assert choices.keys() == questions.keys()
    for key, question in questions.items():
        assert question["answer"] in choices[key]["valid"]
        assert question["answer"] in choices[key]["plausible"]
