"""`palitune predict` answers about an image what an evaluation of the same model answers."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from tests.helpers import read_lines, sentence
from tests.palitune.commands import run_command, train, write_data


def predict(*arguments: object, exit_code: int = 0) -> Result:
    words = ("--quantization", "none", "--device", "cpu")
    return run_command("predict", *arguments, *words, exit_code=exit_code)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pico1: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = write_data(folder / "data", "vqav2", "flat")
    train("vqav2", pico1, data, folder / "run", "--max_steps", 2, "--quantization", "none")
    return folder / "run"


def test_the_answer_is_that_of_the_evaluation(run: Path, tmp_path: Path) -> None:
    rows = read_lines(run / "evaluation/val/predictions.jsonl")
    for row in rows:
        words = (row["image"], "--model_path", run, "--question", row["question"])
        assert predict(*words).stdout == f"{row['prediction']}\n"
        (line,) = predict(*words, "--json").stdout.splitlines()
        assert json.loads(line) == {
            key: row[key] for key in ("image", "question", "prompt", "raw_prediction", "prediction")
        }


def test_a_folder_is_answered_in_the_order_of_its_names(pico1: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "photo.heic", "1.md", "2.md", "3.md", "4.md"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "more.png").mkdir()
    for name, color in (("b.png", "red"), ("a.PNG", "blue")):
        Image.new("RGB", (40, 30), color).save(tmp_path / name)
    result = predict(tmp_path, "--model_path", pico1, "--task", "coco_captioning")
    output = result.stdout
    assert (
        f"Of {tmp_path} these are left out, as no files with the ending of an image: 1.md, 2.md, "
        "3.md, 4.md, more.png and 2 more.\n"
    ) in result.stderr
    names = [line.partition(": ")[0] for line in output.splitlines()]
    assert names == [str(tmp_path / "a.PNG"), str(tmp_path / "b.png")]


@pytest.mark.parametrize(
    ("image", "words", "expected"),
    [
        ("empty", ("--task", "coco_captioning"), "There is no image in"),
        ("nowhere.png", ("--task", "coco_captioning"), "does not exist"),
        ("text.png", ("--task", "coco_captioning"), "is not an image"),
        ("image.png", ("--task", "vqav2"), "asks a question: give it by --question"),
        (
            "image.png",
            ("--task", "coco_captioning", "--question", "why?"),
            "no place for a question",
        ),
        ("image.png", (), "--task is missing"),
        ("image.png", ("--task", "vqav2", "--question", "why " * 99), "text tokens, the budget is"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    image: str, words: tuple[str, ...], expected: str, pico1: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    result = predict(tmp_path / image, "--model_path", pico1, *words, exit_code=2)
    assert expected in sentence(result.exit_code, result.output)
