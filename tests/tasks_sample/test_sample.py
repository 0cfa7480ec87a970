"""The embedded data: official formats, the same bytes everywhere, balanced, unseen, true."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from models.tiny.skills import COMMANDS, WORDS
from synthetic.scenes import CELLS, COLORS, NUMBERS, SHAPES, Scene, random_scene
from tasks.base import Source
from tasks.images import check_dataset
from tasks.registry import get_task
from tasks.sample import FORMAT_VERSION, WRITERS, coco_captioning, docvqa, gqa, sample_root, vqav2
from tasks.sample.asking import scene_key
from tasks.sample.cache import build_once, cache_dir

REPOSITORY = Path(__file__).parents[2]
GENERATE_ALL = "from tasks.sample import *; [sample_root(name) for name in WRITERS]"
OPPOSITE = {"yes": "no", "no": "yes"}
SHAPE_PATTERN = rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})"


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two caches, each filled by a process of its own with its own order of sets."""
    folders = [tmp_path_factory.mktemp("cache") for _ in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GENERATE_ALL],
            cwd=REPOSITORY,
            env={**os.environ, "PALITUNE_CACHE": str(folder), "PYTHONHASHSEED": str(seed)},
        )
        for seed, folder in enumerate(folders, start=1)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    return folders


@pytest.fixture
def roots(caches: list[Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("PALITUNE_CACHE", str(caches[0]))
    return {name: sample_root(name) for name in WRITERS}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def vqa_files(root: Path, split: str) -> tuple[Any, Any]:
    questions = read(root / f"Questions/v2_OpenEnded_mscoco_{split}_questions.json")
    return questions, read(root / f"Annotations/v2_mscoco_{split}_annotations.json")


def vqa_pairs(root: Path, split: str) -> list[tuple[str, Any]]:
    questions, annotations = vqa_files(root, split)
    return [
        (question["question"], annotation)
        for question, annotation in zip(
            questions["questions"], annotations["annotations"], strict=True
        )
    ]


def docvqa_records(root: Path, split: str) -> list[Any]:
    return list(read(root / f"spdocvqa_qas/{split}_v1.0_withQT.json")["data"])


def gqa_file(root: Path, stem: str) -> dict[str, Any]:
    return dict(read(root / f"questions1.2/{stem}_questions.json"))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Through the tasks


@pytest.mark.parametrize("name", WRITERS)
def test_the_task_reads_both_splits_and_finds_every_picture(
    roots: dict[str, Path], name: str
) -> None:
    task = get_task(name)
    source = Source(data_root=roots[name])
    for split, number in ((task.train_splits[0], 3000), (task.eval_splits[0], 300)):
        dataset = task.load(split, source)
        assert len(dataset) == number
        check_dataset(dataset)


def test_true_answers_get_every_gqa_figure(roots: dict[str, Path]) -> None:
    dataset = get_task("gqa").load("testdev_all", Source(data_root=roots["gqa"]))
    examples = list(dataset)
    figures = dataset.task.score([example.references[0] for example in examples], examples).figures
    assert {name: value for name, value in figures.items() if name != "distribution"} == {
        name: 100.0
        for name in ("accuracy", "binary", "open", "consistency", "validity", "plausibility")
    }
    assert figures["distribution"] == 0


# The cache


def test_two_processes_with_different_hash_seeds_write_the_same_bytes(caches: list[Path]) -> None:
    first, second = map(digests, caches)
    assert first == second
    assert len(first) > 9000


def test_the_texts_are_those_of_this_format_version(caches: list[Path]) -> None:
    # a cache filled by an older release is used as it is: with other texts the version must rise
    texts = [f"{name} {digest}" for name, digest in digests(caches[0]).items() if "json" in name]
    assert f"v{FORMAT_VERSION} {hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}" == (
        "v1 0eedb8bed5bff7eaeb8b46576985b9af710c43ae3c5fa55c11aff9c6242fd0dc"
    )


def test_the_cache_is_in_the_chosen_folder_or_else_in_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PALITUNE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "palitune"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "palitune"
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "chosen"))
    assert cache_dir() == tmp_path / "chosen"


def test_data_that_is_there_is_not_written_again(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WRITERS, "gqa", lambda root: pytest.fail("written again"))
    assert sample_root("gqa") == roots["gqa"]


def test_an_interrupted_writing_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    def break_off(root: Path) -> None:
        (root / "half").touch()
        raise KeyboardInterrupt

    folder = tmp_path / "parent" / "data"
    with pytest.raises(KeyboardInterrupt):
        build_once(folder, break_off)
    assert list(folder.parent.iterdir()) == []
    build_once(folder, lambda root: (root / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_two_writers_at_once_both_succeed_and_one_folder_remains(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=20)
    results = []

    def write(root: Path) -> None:
        barrier.wait()  # both are writing now
        (root / "file").write_text("content")
        assert not (tmp_path / "data").exists() or (tmp_path / "data" / "file").exists()
        barrier.wait()

    def build() -> None:
        results.append(build_once(tmp_path / "data", write))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "data"] * 2
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "data",
        "data/file",
    ]


def test_the_folder_can_be_read_by_other_users(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        folder = build_once(tmp_path / "data", lambda root: None)
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_unwritable_cache_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written to .*/file/.*; set PALITUNE_CACHE to"):
        sample_root("vqav2")


def test_a_task_without_sample_data_is_refused() -> None:
    with pytest.raises(ValueError, match="No sample data for 'digits'; there is for coco_capt"):
        sample_root("digits")


# Formats


def test_every_picture_is_64_pixels_and_of_the_official_kind(roots: dict[str, Path]) -> None:
    for name, root in roots.items():
        pictures = [path for path in root.rglob("*") if path.suffix in (".jpg", ".png")]
        with Image.open(min(pictures)) as image:
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


# Content


def test_no_held_out_picture_shows_what_a_training_picture_shows() -> None:
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


def test_color_answers_are_what_the_pictures_show(roots: dict[str, Path]) -> None:
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


# What is true, and what follows from it


def truth(scene: Scene, question: str) -> str | None:
    """The answer, worked out from the words of the question; None where it makes no sense."""
    cells = re.findall("|".join(CELLS), question)
    is_there = [cell in scene for cell in cells]
    if question.startswith("how many"):
        return NUMBERS[len(scene)]
    claims = re.findall(rf"\b({'|'.join((*COLORS, *SHAPES))})\b", question)
    if question.startswith(("is there", "does the picture have")) and not claims:
        return "yes" if (any if " or " in question else all)(is_there) else "no"
    if relation := re.search("below|above|left of|right of", question):
        horizontal = {"left of": "left", "right of": "right"}.get(relation[0], cells[0].split()[1])
        vertical = {"above": "top", "below": "bottom"}.get(relation[0], cells[0].split()[0])
        cells.append(f"{vertical} {horizontal}")
        assert cells[0] != cells[1]
    if not all(cell in scene for cell in cells):
        return None
    shapes = [scene[cell] for cell in cells]
    if question.startswith("do the shapes"):
        is_same = shapes[0].color == shapes[1].color
        return "yes" if is_same == ("same" in question) else "no"
    if question.startswith(("what color", "what is the color")):
        return shapes[-1].color
    if question.startswith(("what shape", "which shape")):
        return shapes[0].kind
    if question.startswith("what is in"):
        return str(shapes[0])
    held = [claim for claim in claims if claim in (shapes[0].color, shapes[0].kind)]
    if " or " in question:
        return held[0] if held else None
    return "yes" if held else "no"


def test_every_vqa_answer_is_true() -> None:
    for asked in vqav2.make_questions():
        for scene, questions in asked:
            for question in questions:
                expected = truth(scene, question.text)
                if question.answer_type == "number":
                    expected = str(NUMBERS.index(str(expected)))
                assert question.answer == expected, question.text


def test_every_docvqa_answer_is_on_the_page_where_the_question_says() -> None:
    lines = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
    for asked in docvqa.make_questions():
        for page, questions in asked:
            for question in questions:
                (word,) = re.findall(r"\d|[A-Z]{2}|first|second|third|fourth|last", question.text)
                if word in page.fields:
                    expected = page.fields[word]
                else:
                    expected = page.rows[int(word) - 1 if word.isdigit() else lines[word]]
                assert {answer.replace(" ", "") for answer in question.answers} == {expected}


def test_every_gqa_answer_is_true(roots: dict[str, Path]) -> None:
    first_images = {"train_balanced": 2_310_000, "testdev_all": 161_313}
    for stem, asked in zip(first_images, gqa.make_questions(), strict=True):
        for question in gqa_file(roots["gqa"], stem).values():
            scene, _ = asked[int(question["imageId"].lstrip("n")) - first_images[stem]]
            assert truth(scene, question["question"]) == question["answer"], question["question"]


def test_testdev_all_is_the_balanced_questions_and_those_they_entail(
    roots: dict[str, Path],
) -> None:
    everything = gqa_file(roots["gqa"], "testdev_all")
    balanced = gqa_file(roots["gqa"], "testdev_balanced")
    assert {k: q for k, q in everything.items() if q["isBalanced"]} == balanced
    entailed = {key for question in balanced.values() for key in question["entailed"]}
    assert everything.keys() == entailed | balanced.keys()
    assert len(everything) > 3 * len(balanced)
    for question in everything.values():
        assert set(question["equivalent"]) <= set(question["entailed"]) <= everything.keys()


def test_entailed_answers_hold_wherever_the_entailing_one_does(roots: dict[str, Path]) -> None:
    rng = Random(0)
    scenes = [random_scene(rng) for _ in range(400)]
    everything = gqa_file(roots["gqa"], "testdev_all")
    num_checked = 0
    for question in list(gqa_file(roots["gqa"], "testdev_balanced").values())[::2]:
        entailed = [everything[key] for key in question["entailed"]]
        for scene in scenes:
            if truth(scene, question["question"]) == question["answer"]:
                num_checked += 1
                for other in entailed:
                    assert truth(scene, other["question"]) == other["answer"]
    assert num_checked > 1000


def test_equivalent_questions_have_one_answer_in_any_scene(roots: dict[str, Path]) -> None:
    rng = Random(1)
    scenes = [random_scene(rng) for _ in range(50)]
    everything = gqa_file(roots["gqa"], "testdev_all")
    for question in everything.values():
        for key in question["equivalent"]:
            other = everything[key]["question"]
            assert question["answer"] == everything[key]["answer"]
            assert all(truth(s, question["question"]) == truth(s, other) for s in scenes)
