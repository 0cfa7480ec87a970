"""Rows of several images through the commands: trained on, scored, asked about, refused."""

import json
from pathlib import Path

import pytest
from PIL import Image

from evaluation.baselines import shuffle_images
from evaluation.prompting import make_prompter
from finetuning.training.examples import EncodedExamples, longest
from models.checkpoint import resolve
from models.encoding import Illustrated
from models.loading import load_family
from tasks.base import Example, Source, Turn
from tasks.images import FileImage
from tasks.registry import get_task
from tests.helpers import read_lines, sentence
from tests.models.test_clip import make_clip
from tests.models.tiny_families import maker
from tests.palitune.commands import run_command

COLORS = ("red", "green", "blue")
PAIRS = [("red", "blue"), ("blue", "green"), ("green", "red"), ("blue", "red")]
SHORT = ("--quantization", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, and a table of questions about two of them each."""
    folder = tmp_path_factory.mktemp("pairs")
    for color in COLORS:
        Image.new("RGB", (40, 30), color).save(folder / f"{color}.png")
    rows = "".join(f"{a}.png,{b}.png,which is first?,{a}\n" for a, b in PAIRS)
    (folder / "pairs.csv").write_text(f"left,right,instruction,response\n{rows}")
    return folder


@pytest.fixture(scope="module")
def run(place: Path, pico1: Path) -> Path:
    table = place / "pairs.csv"
    words = ("--train_csv", table, "--val_csv", table, "--image_column", "left")
    more = ("--image_column", "right", "--max_steps", 2, "--output_dir", place / "run", *SHORT)
    run_command("train", "csv_qa", "--model_path", pico1, *words, *more)
    return place / "run"


def test_predictions_name_all_images_and_the_report_shows_them(run: Path) -> None:
    (path,) = run.glob("evaluation/*/predictions.jsonl")
    rows = read_lines(path)
    named = [[Path(name).stem for name in row["images"]] for row in rows]
    assert named == [list(pair) for pair in PAIRS]
    assert [Path(row["image"]).stem for row in rows] == [first for first, _ in PAIRS]
    header, first, *_ = path.with_name("predictions.csv").read_text().splitlines()
    assert header.startswith("id,image,") and "red.png|" in first and "blue.png" in first
    page = path.with_name("report.html").read_text()
    assert page.count("data:image/png;base64,") == len(PAIRS)  # a grid for each


def test_asked_together_the_answer_is_that_of_the_evaluation(run: Path, place: Path) -> None:
    (path,) = run.glob("evaluation/*/predictions.jsonl")
    for row in read_lines(path)[:2]:
        words = (*row["images"], "--together", "--model_path", run, "--question", row["question"])
        result = run_command("predict", *words, *SHORT)
        assert result.stdout == f"{row['prediction']}\n"
        (line,) = run_command("predict", *words, "--json", *SHORT).stdout.splitlines()
        assert json.loads(line)["image"] == "|".join(row["images"])


def test_apart_each_image_has_its_answer(run: Path, place: Path) -> None:
    files = [place / f"{color}.png" for color in COLORS]
    words = ("--model_path", run, "--question", "which is first?")
    lines = run_command("predict", *files, *words, *SHORT).stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == list(map(str, files))


def test_a_table_says_itself_what_belongs_together(run: Path, place: Path) -> None:
    words = ("--csv", place / "pairs.csv", "--together", "--model_path", run)
    result = run_command("predict", *words, *SHORT, exit_code=2)
    assert "a table says in each row" in sentence(result.exit_code, result.output)


def test_a_family_of_one_image_refuses_the_row_before_a_model_is_loaded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker("blip2")(tmp_path / "blip2")
    monkeypatch.setattr("finetuning.training.prepare.load_model", None)
    table = ("--train_csv", place / "pairs.csv", "--image_column", "left")
    words = (*table, "--image_column", "right", "--output_dir", tmp_path / "run")
    model = ("--model_path", tmp_path / "blip2")
    result = run_command("train", "csv_qa", *model, *words, *SHORT, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert "Example 2 has 2 images, and a blip2 model takes one; take a model of " in said
    assert "qwen_vl" in said and "paligemma" in said
    assert not (tmp_path / "run").exists()


def test_clip_compares_one_image_and_refuses_several(
    run: Path, place: Path, tmp_path: Path
) -> None:
    table = ("--csv", place / "pairs.csv", "--image_column", "left", "--image_column", "right")
    clip = make_clip(tmp_path / "clip")
    words = ("eval", "--task", "csv_qa", *table, "--model_path", run, "--clip_model", clip)
    result = run_command(*words, *SHORT, exit_code=2)
    said = sentence(result.exit_code, result.output)
    assert "Example 2 has 2 images, and CLIPScore takes one; leave --clip_model out." in said


def test_other_examples_images_keep_their_number() -> None:
    images = [FileImage(name) for name in "abc"]
    examples = [
        Example(example_id=0, image=images[0], further_images=(images[1],), turns=(), references=())
    ]
    examples.append(Example(example_id=1, image=images[2], turns=(), references=()))
    for before, after in zip(examples, shuffle_images(examples, seed=0) or (), strict=True):
        pairs = list(zip(before.images, after.images, strict=True))
        assert all(one != other for one, other in pairs)


def test_preview_shows_texts_between_images(place: Path, tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path / "qwen")
    turns = [
        {"from": "human", "value": "Is <image> like <image>?"},
        {"from": "gpt", "value": "no"},
    ]
    record = {"images": ["red.png", "blue.png"], "conversations": turns}
    (place / "talk.json").write_text(json.dumps([record]))
    words = ("--task", "conversations", "--file", place / "talk.json")
    more = ("--model_path", tmp_path / "qwen", "--output_dir", tmp_path)
    output = run_command("preview", *words, *more).stdout
    mark = "<|vision_start|><|vision_end|>"
    assert f"user\\nIs {mark} like {mark}?<|im_end|>" in output


def test_the_prompt_that_is_recorded_says_where_images_stand(place: Path, tmp_path: Path) -> None:
    task = get_task("csv_qa")
    (place / "marks.csv").write_text(
        "image,query,annotation\nred.png|blue.png,Is <image> like<image>?,no\n"
    )
    (example,) = task.load("test", Source(tables={"test": place / "marks.csv"}))
    maker("qwen2_vl")(tmp_path / "qwen")
    maker("paligemma")(tmp_path / "pali")
    qwen, pali = (
        make_prompter(task, load_family(resolve(str(tmp_path / name)))) for name in ("qwen", "pali")
    )
    assert qwen.sent(example) == "Is <image> like<image>?"
    assert pali.sent(example) == "Is  like ?"  # all in front, and no word is glued to another


def test_no_image_of_a_question_is_cut_off(tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path)
    family = load_family(resolve(str(tmp_path)))
    task = get_task("csv_qa")
    images = [FileImage(name) for name in "ab"]
    turn = Turn("user", "is a like b, and is it blue, green or red?", places=(0, 6))
    example = Example(
        example_id=7, image=images[0], further_images=(images[1],), turns=(turn,), references=()
    )
    (least,) = family.count_tokens([[("user", Illustrated("tell is a l", (5, 11)))]])
    ((_, text),) = make_prompter(task, family, "tell {question}", least, truncate=True).messages(
        example
    )
    assert isinstance(text, Illustrated) and text.places == (5, 11)  # 5 characters of "tell "
    assert "tell is a l" in text and len(text) < len("tell " + turn.text)
    tight = make_prompter(task, family, "tell {question}", least - 6, truncate=True)
    with pytest.raises(ValueError, match=r"Example 7: its text up to the last image is over .*cut"):
        tight.messages(example)


def test_the_plan_looks_at_the_example_of_the_most_images(place: Path, pico1: Path) -> None:
    rows = "".join(f"red.png,what is it?,{n}\n" for n in range(40))
    table = place / "one_of_many.csv"
    many = "red.png|blue.png|green.png"
    table.write_text(f"image,query,annotation\n{rows}{many},so?,no\n{rows}")
    task = get_task("csv_qa")
    dataset = task.load("train", Source(tables={"train": table}))
    prompter = make_prompter(task, load_family(resolve(str(pico1))))
    examples = EncodedExamples(dataset, prompter, 0, "first")
    assert len(longest(examples).image_spans) == 3
