"""What the embedded data shows and asks: unseen images, balanced answers, known words."""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from models.tiny.skills import COMMANDS, WORDS
from synthetic.scenes import CELLS, COLORS, NUMBERS, SHAPES
from tasks.sample import coco_captioning, docvqa, gqa, vqav2
from tasks.sample.asking import scene_key
from tests.tasks.sample.reading import (
    OPPOSITE,
    SHAPE_PATTERN,
    docvqa_records,
    gqa_file,
    read,
    vqa_pairs,
)


def test_no_held_out_image_shows_what_a_training_image_shows() -> None:
    scene_splits = [
        coco_captioning.make_scenes(),
        *[
            tuple([scene for scene, _ in asked] for asked in task.make_questions())
            for task in (vqav2, gqa)
        ],
    ]
    for train, held_out in scene_splits:
        assert not {scene_key(scene) for scene in train} & {scene_key(s) for s in held_out}
    pages_train, pages_held_out = docvqa.make_questions()
    seen = {page.rows for page, _ in pages_train}
    assert not seen & {page.rows for page, _ in pages_held_out}


def test_the_number_of_shapes_does_not_depend_on_what_is_held_out() -> None:
    for scenes in coco_captioning.make_scenes():
        for count in Counter(map(len, scenes)).values():
            assert count / len(scenes) == pytest.approx(0.25, abs=0.06)


def test_captions_are_five_different_short_ones_that_name_each_shape() -> None:
    rng = Random(0)
    for scene in coco_captioning.make_scenes()[1]:
        captions = coco_captioning.captions(scene, rng)
        assert len(set(captions)) == 5
        for caption in captions:
            assert len(caption.split()) <= 22
            named = re.findall(SHAPE_PATTERN, caption)
            assert named == [str(shape) for shape in scene.values()]


def test_everything_said_is_in_the_tiny_models_words(roots: dict[str, Path]) -> None:
    texts: set[str] = set()
    for split in ("train2014", "val2014"):
        content = read(roots["coco_captioning"] / f"annotations/captions_{split}.json")
        texts |= {annotation["caption"] for annotation in content["annotations"]}
        for question, annotation in vqa_pairs(roots["vqav2"], split):
            texts |= {question, *(answer["answer"] for answer in annotation["answers"])}
    for split in ("train", "val"):
        for record in docvqa_records(roots["docvqa"], split):
            texts |= {record["question"], *record["answers"]}
    for stem in ("train_balanced", "testdev_all"):
        for record in gqa_file(roots["gqa"], stem).values():
            texts |= {record["question"], record["answer"], record["fullAnswer"]}
    words = {word for text in texts for word in re.findall(r"[^\s,:?]+", text)}
    assert {word for word in words if not re.fullmatch("[A-Z0-9]+", word)} <= set(WORDS)
    assert not {text.split()[0] for text in texts} & set(COMMANDS)


def test_docvqa_answers_are_as_printed_and_more_than_one_character(roots: dict[str, Path]) -> None:
    for record in docvqa_records(roots["docvqa"], "train"):
        for answer in record["answers"]:
            assert re.fullmatch("[A-Z0-9]{2,4}|[A-Z]{2} [0-9]{2}", answer)


def test_answer_types_and_structures_have_the_intended_shares(roots: dict[str, Path]) -> None:
    pairs = vqa_pairs(roots["vqav2"], "train2014")
    answer_types = Counter(annotation["answer_type"] for _, annotation in pairs)
    assert {key: count / 3000 for key, count in answer_types.items()} == pytest.approx(
        {"other": 0.55, "yes/no": 0.25, "number": 0.2}, abs=0.01
    )
    questions = gqa_file(roots["gqa"], "train_balanced").values()
    structures = Counter(question["types"]["structural"] for question in questions)
    assert {key: count / 3000 for key, count in structures.items()} == pytest.approx(
        {"query": 0.55, "choose": 0.15, "verify": 0.15, "logical": 0.07, "compare": 0.08}, abs=0.01
    )


def test_yes_and_no_are_balanced_within_each_wording(roots: dict[str, Path]) -> None:
    asked = [
        (question, annotation["multiple_choice_answer"])
        for question, annotation in vqa_pairs(roots["vqav2"], "train2014")
    ]
    questions = gqa_file(roots["gqa"], "train_balanced").values()
    asked += [(question["question"], question["answer"]) for question in questions]
    words = {"CELL": CELLS, "COLOR": COLORS, "SHAPE": SHAPES, "a": ("an",)}
    counts: Counter[tuple[str, str]] = Counter()
    for wording, answer in asked:
        if answer in OPPOSITE:
            for general, special in words.items():
                wording = re.sub(rf"\b({'|'.join(special)})\b", general, wording)
            counts[wording, answer] += 1
    assert len(counts) >= 16
    for (wording, answer), count in counts.items():
        assert abs(count - counts[wording, OPPOSITE[answer]]) <= 2, wording


def test_the_right_option_comes_first_in_half_of_the_choices(roots: dict[str, Path]) -> None:
    chosen = [
        question["question"].split(" or ")[0].endswith(question["answer"])
        for question in gqa_file(roots["gqa"], "train_balanced").values()
        if question["types"]["structural"] == "choose"
    ]
    assert sum(chosen) / len(chosen) == pytest.approx(0.5, abs=0.01)


def test_colors_shapes_and_numbers_are_about_equally_frequent_answers(
    roots: dict[str, Path],
) -> None:
    pairs = vqa_pairs(roots["vqav2"], "train2014")
    answers = Counter(annotation["multiple_choice_answer"] for _, annotation in pairs)
    questions = gqa_file(roots["gqa"], "train_balanced").values()
    queries = Counter(q["answer"] for q in questions if q["types"]["structural"] == "query")
    for counts, numbers in ((answers, "1234"), (queries, NUMBERS[1:])):
        for group in (COLORS, SHAPES, numbers):
            expected = sum(counts[word] for word in group) / len(group)
            for word in group:
                assert counts[word] == pytest.approx(expected, rel=0.3), word


def test_a_constant_answer_is_a_weak_baseline(roots: dict[str, Path]) -> None:
    pairs = vqa_pairs(roots["vqav2"], "train2014")
    answers = Counter(annotation["multiple_choice_answer"] for _, annotation in pairs)
    assert answers.most_common(1)[0][1] < 0.15 * 3000
    questions = gqa_file(roots["gqa"], "train_balanced").values()
    assert Counter(q["answer"] for q in questions).most_common(1)[0][1] < 0.2 * 3000
    records = docvqa_records(roots["docvqa"], "train")
    assert Counter(r["answers"][0] for r in records).most_common(1)[0][1] < 0.02 * 3000


def test_color_answers_are_what_the_images_show(roots: dict[str, Path]) -> None:
    num_checked = 0
    for question, annotation in vqa_pairs(roots["vqav2"], "val2014"):
        if match := re.fullmatch(r"what color is the shape in the (.*)\?", question):
            name = f"COCO_val2014_{annotation['image_id']:012d}.jpg"
            path = roots["vqav2"] / "Images/mscoco/val2014" / name
            assert shown_color(path, match[1]) == annotation["multiple_choice_answer"], name
            num_checked += 1
    assert num_checked > 30


def shown_color(path: Path, cell: str) -> str:
    """The named color nearest to most pixels that are not of the light background."""
    row, column = divmod(CELLS.index(cell), 2)
    counts: Counter[str] = Counter()
    with Image.open(path) as image:
        part = image.crop((32 * column, 32 * row, 32 * column + 32, 32 * row + 32))
        for _, pixel in part.getcolors(1024) or []:
            near = {
                color: max(abs(a - b) for a, b in zip(pixel, rgb, strict=True))  # type: ignore[arg-type]
                for color, rgb in COLORS.items()
            }
            best = min(near, key=near.__getitem__)
            counts[best] += near[best] <= 25
    return counts.most_common(1)[0][0]
