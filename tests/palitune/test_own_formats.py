"""Each format of people's own, from the file to the report, by the commands."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import read_json, read_lines, sentence
from tests.own_formats import (
    COLORS,
    image_bytes,
    write_image_folder,
    write_shards,
    write_table,
    write_tar,
)
from tests.palitune.commands import run, run_command

SHORT = ("--max_steps", 1, "--lora_rank", 4, "--max_new_tokens", 4, "--batch_size", 2)

pytestmark = pytest.mark.usefixtures("no_java")


def korean(folder: Path) -> tuple[str, tuple[object, ...], tuple[object, ...]]:
    train = write_table(folder, "cp949", "train.csv")
    test = write_table(folder, "cp949", "test.csv")
    tables = ("--train_csv", train, "--test_csv", test, "--encoding", "cp949")
    return "image_qa", tables, ("--csv", test)


def image_folder(folder: Path) -> tuple[str, tuple[object, ...], tuple[object, ...]]:
    write_image_folder(folder, ("train", "test"))
    where = ("--data_root", folder)
    return "csv_qa", (*where, "--question", "Describe it."), where


def shards(folder: Path) -> tuple[str, tuple[object, ...], tuple[object, ...]]:
    write_shards(folder, "train")
    test = write_shards(folder, "test") / "test-{000..001}.tar"
    return "image_qa", ("--data_root", folder, "--num_workers", 2), ("--csv", test)


FORMATS: dict[str, Any] = {"korean": korean, "image folder": image_folder, "shards": shards}
ASKED = {"korean": "무슨 색?", "image folder": "Describe it.", "shards": "which colour?"}
ANSWERED = {"korean": "색 {}", "image folder": "a {} picture", "shards": "{}"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_trained_on_scored_and_reported(name: str, pico1: Path, tmp_path: Path) -> None:
    task, to_train, to_score = FORMATS[name](tmp_path / "data")
    folder = tmp_path / "run"
    run(task, *to_train, "--model_path", pico1, "--output_dir", folder, *SHORT)
    # an evaluation of the run reads as the run did, without its options
    out = tmp_path / "out"
    arguments = ("--task", task, *to_score, "--model_path", folder, "--output_dir", out)
    run("eval", *arguments, "--max_new_tokens", 4)
    for place in (folder / "evaluation/test", out):
        rows = read_lines(place / "predictions.jsonl")
        assert [row["question"] for row in rows] == [ASKED[name]] * 4
        assert [row["references"] for row in rows] == [[ANSWERED[name].format(c)] for c in COLORS]
        assert (place / "report.html").is_file()
    run_command("report", folder / "evaluation/test", out, "--output", tmp_path / "both.html")
    assert (tmp_path / "both.html").is_file()


def test_the_encoding_and_the_question_are_in_the_record_and_can_be_replaced(
    pico1: Path, tmp_path: Path
) -> None:
    task, to_train, _ = korean(tmp_path / "data")
    folder = tmp_path / "run"
    more = ("--skip_evaluation", "--question", "unused")
    run(task, *to_train, *more, "--model_path", pico1, "--output_dir", folder, *SHORT)
    settings = read_json(folder / "run.json")["settings"]
    assert (settings["encoding"], settings["question"]) == ("cp949", "unused")
    table = write_table(tmp_path / "other", "utf-8")
    arguments = ("--task", task, "--csv", table, "--model_path", folder, "--max_new_tokens", 2)
    run("eval", *arguments, "--encoding", "utf-8", "--output_dir", tmp_path / "out")
    rows = read_lines(tmp_path / "out/predictions.jsonl")
    assert rows[0]["references"] == ["색 red"]


MISTAKES = {
    "no codec": ("image_qa --train_csv {data}/train.csv --encoding klingon", "klingon is no enc"),
    "other encoding": ("image_qa --train_csv {data}/train.csv", "train.csv, line 2 is not UTF-8"),
    "no tables": ("eval --task vqav2 --data_root {data} --encoding cp949", "vqav2 reads no table"),
    "no question": ("csv_qa --data_root {data}/folder", "or pass --question"),
    "compressed": ("csv_qa --train_csv {data}/a.tar.gz", "is compressed"),
    "no shard": ("csv_qa --train_csv {data}/t-{{0..1}}.tar", "2 of the 2 shard(s)"),
    "key": ("image_qa --train_csv {data}/bad.tar", "bad.tar, sample b/2 has no image"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_place(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    korean(data)
    write_image_folder(data / "folder", ("train",))
    write_tar(data / "bad.tar", {"1.png": image_bytes("red"), "1.txt": b"x", "b/2.txt": b"y"})
    words, said = MISTAKES[name]
    command, *options = words.format(data=data).split()
    more = ("--question", "?") if name == "key" else ()
    out = tmp_path / "run"
    arguments = (*options, *more, "--model_path", "tiny", "--output_dir", out)
    result = run(command, *arguments, exit_code=2)
    assert said in sentence(result.exit_code, result.output)
    assert not out.exists()


def test_check_lists_the_samples_that_cannot_be_used(tmp_path: Path) -> None:
    files = {
        "1.png": image_bytes("red"),
        "1.txt": b"x",
        "2.txt": b"y",
        "3.png": b"no",
        "3.txt": b"z",
    }
    path = write_tar(tmp_path / "t.tar", files)
    arguments = ("--task", "csv_qa", "--csv", path, "--question", "?")
    lines = run_command("check", *arguments, exit_code=2).stdout.splitlines()
    assert lines[-1] == "3 examples: 1 usable, 2 reported"
    assert lines[0].startswith(f"2  {path}  {path}, sample 2 has no image")
    assert lines[1].startswith(f"3  {path}/3.png  {path}/3.png is not an image")
