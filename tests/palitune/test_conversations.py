"""Conversations through the commands: trained, scored, shown and refused as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.loading import load_family
from tasks.base import Source
from tasks.metrics import java
from tasks.registry import get_task
from tests.helpers import read_json, sentence
from tests.models.tiny_families import maker
from tests.palitune.commands import run, run_command

pytestmark = pytest.mark.usefixtures("no_java")

COLORS = ("red", "green", "blue", "yellow")


def record(color: str, *talk: str) -> dict[str, Any]:
    turns = [
        {"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(talk)
    ]
    return {"id": color, "image": f"{color}.png", "conversations": turns}


def write(folder: Path) -> None:
    """Files as LLaVA and ms-swift have them, beside a folder of images."""
    (folder / "pics").mkdir(parents=True)
    for color in COLORS:
        Image.new("RGB", (32, 24), color).save(folder / f"pics/{color}.png")
    talks = [record(color, "<image>\nWhich colour?", color) for color in COLORS]
    (folder / "llava.json").write_text(json.dumps(talks))
    mixed = [*talks, {"id": "text", "conversations": record("red", "Hi!", "Hi.")["conversations"]}]
    (folder / "mixed.json").write_text(json.dumps(mixed))
    long = record("red", "<image>\nWhich colour?", "Red.", "Sure?", "Yes.")
    (folder / "long.json").write_text(json.dumps([long]))
    swift = [
        {
            "messages": [
                {"role": "user", "content": "<image>Which colour?"},
                {"role": "assistant", "content": color},
            ],
            "images": [f"{color}.png"],
        }
        for color in COLORS
    ]
    (folder / "swift.jsonl").write_text("\n".join(map(json.dumps, swift)))
    asked = [{**row, "conversations": row["conversations"][:1]} for row in talks]
    (folder / "asked.json").write_text(json.dumps(asked))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files, and a run of two steps on them."""
    folder = tmp_path_factory.mktemp("conversations")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java.shutil, "which", lambda _: None)  # as the fixture no_java does
        run(
            *("conversations", "--model_path", "tiny", "--data_root", folder / "pics"),
            *("--train_file", folder / "llava.json", "--test_file", folder / "swift.jsonl"),
            *("--output_dir", folder / "run", "--max_steps", 2, "--batch_size", 2),
            *("--max_new_tokens", 2, "--lora_rank", 4),
        )
    return folder


def test_a_training_on_one_format_is_scored_on_another(folder: Path) -> None:
    scores = folder / "run" / "evaluation" / "test"
    metrics = read_json(scores / "metrics.json")
    assert (metrics["task"], metrics["metric"]) == ("conversations", "rouge_l")
    assert metrics["num_examples"] == 4
    rows = [json.loads(line) for line in (scores / "predictions.jsonl").read_text().splitlines()]
    assert [row["references"] for row in rows] == [[color] for color in COLORS]
    assert {(row["question"], row["prompt"]) for row in rows} == {("Which colour?",) * 2}
    assert [Path(row["image"]).name for row in rows] == [f"{color}.png" for color in COLORS]
    page = (scores / "report.html").read_text()
    assert "Which colour?" in page and "yellow" in page


def test_answers_in_a_file_are_scored_without_images(folder: Path) -> None:
    answers = [{"id": number, "prediction": "red"} for number in range(1, 5)]
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "llava.json").write_text((folder / "llava.json").read_text())
    run(
        *("eval", "--task", "sharegpt", "--file", folder / "elsewhere" / "llava.json"),
        *("--predictions", folder / "answers.json", "--output_dir", folder / "scores"),
    )
    assert read_json(folder / "scores" / "metrics.json")["value"] == 0.25  # the red one of four


def test_questions_without_answers_are_answered_and_not_scored_or_trained_on(folder: Path) -> None:
    data = ("--data_root", folder / "pics", "--max_new_tokens", 2)
    result = run("eval", "--model_path", folder / "run", "--file", folder / "asked.json", *data)
    assert "(there are no answers to score against)" in result.output
    scores = folder / "run" / "evaluation" / "csv_asked"
    assert len((scores / "predictions.jsonl").read_text().splitlines()) == 4
    training = ("conversations", "--model_path", "tiny", *data, "--output_dir", folder / "none")
    result = run(*training, "--train_file", folder / "asked.json", exit_code=2)
    assert "4 of 4 conversations" in sentence(2, result.output)
    result = run(
        *(*training, "--train_file", folder / "llava.json", "--test_file", folder / "asked.json"),
        exit_code=2,
    )
    assert "split 'test' are withheld" in sentence(2, result.output)
    assert not (folder / "none").exists()


def test_what_a_model_or_the_task_cannot_show_is_said_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetuning.training.prepare.load_model", None)
    training = ("conversations", "--model_path", "tiny", "--data_root", folder / "pics")
    for file, parts in {
        "long.json": ("one user turn and at most one answer", "(example 1)"),
        "mixed.json": ("1 of 5 examples", "(element 5)", "--on_bad_image skip"),
    }.items():
        result = run(
            *(*training, "--train_file", folder / file, "--output_dir", folder / "none"),
            exit_code=2,
        )
        assert all(part in sentence(2, result.output) for part in parts)


def test_check_counts_the_texts_among_conversations(folder: Path) -> None:
    result = run_command(
        *("check", "--task", "llava", "--file", folder / "mixed.json"),
        *("--data_root", folder / "pics"),
        exit_code=2,
    )
    assert "element 5 shows no image" in result.output
    assert result.output.rstrip().endswith("5 examples: 4 usable, 1 reported")


def test_all_of_the_assistants_turns_are_learned_and_nothing_else(
    tmp_path: Path, folder: Path
) -> None:
    maker("llava")(tmp_path / "llava")
    task = get_task("conversations")
    prompter = make_prompter(task, load_family(resolve(str(tmp_path / "llava"))))
    source = Source(data_root=folder / "pics", tables={"train": folder / "long.json"})
    (example,) = task.load("train", source)
    encoded = prompter.encode(example, task.target(example, 0, 0))
    pairs = zip(encoded.input_ids, encoded.is_target, strict=True)
    learned = prompter.family.tokenizer.decode([id_ for id_, is_learned in pairs if is_learned])
    assert learned.replace(" ", "") == "Red.<eos>Yes.<eos>"
