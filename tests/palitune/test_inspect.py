"""`palitune inspect`: every kind of path is named, and what it prints can be typed."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from click.testing import CliRunner
from PIL import Image

from palitune.main import palitune
from tests.evaluation.evaluated import COLORS as SHOWN
from tests.evaluation.evaluated import example, save
from tests.helpers import REPOSITORY, sentence
from tests.official_files import write_coco, write_docvqa, write_gqa, write_vqav2
from tests.own_formats import (
    image_bytes,
    write_csv,
    write_image_folder,
    write_images,
    write_shards,
    write_table,
    write_tar,
)
from tests.palitune.commands import run_command


def inspect(path: Path) -> str:
    return run_command("inspect", path).stdout


def commands(output: str) -> list[list[str]]:
    """The printed commands of ours, as a shell would split them."""
    return [shlex.split(line)[1:] for line in output.splitlines() if line.startswith("palitune ")]


def facts(output: str) -> dict[str, str]:
    lines = [line.strip().partition("  ") for line in output.splitlines() if line.startswith("  ")]
    return {name: rest.strip() for name, _, rest in lines}


def write_saved(folder: Path) -> Path:
    rows = {"image": [Image.new("RGB", (8, 8))] * 3, "question": ["q"] * 3, "label": ["a"] * 3}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows)).save_to_disk(str(folder))
    return folder


def write_lines(folder: Path) -> Path:
    write_images(folder)
    row = {"IMG": "0.png", "prompt": "which?", "output": "red", "split": "train"}
    (folder / "t.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    return folder / "t.jsonl"


WRITERS = {
    "cp949": (lambda d: write_table(d, "cp949"), "a CSV table, cp949, a comma between columns"),
    "utf-16": (lambda d: write_table(d, "utf-16"), "a CSV table, utf-16"),
    "utf-16-le": (lambda d: write_table(d, "utf-16-le"), "a CSV table, utf-16-le"),
    "other columns": (write_lines, "JSON Lines, utf-8"),
    "image folder": (
        lambda d: write_image_folder(d, ("train", "test"), "parquet"),
        "an image folder with metadata: a Parquet table",
    ),
    "shards": (lambda d: write_shards(d) / "train-{000..001}.tar", "WebDataset, 2 shard(s)"),
    "folder of shards": (write_shards, "WebDataset, 2 shard(s)"),
    "saved": (write_saved, "a data set that `datasets` saved"),
    "official": (lambda d: write_vqav2(d), "a folder with the official files of vqav2"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_data_set_is_named_and_its_check_and_preview_run(name: str, tmp_path: Path) -> None:
    write, what = WRITERS[name]
    path = write(tmp_path / "my data")
    output = inspect(path)
    assert output.startswith(f"{path}: {what}"), output
    check, preview, train = commands(output)
    assert [check[0], preview[0], train[0]] == ["check", "preview", "train"]
    assert "0 reported" in run_command(*check).stdout
    page = ("--output_dir", tmp_path / "page", "--num_examples", 1)
    assert "With images" in run_command(*preview, *page).stdout
    # the training takes the same data: all its words are options of the command, bar the last
    assert run_command(*train, "--help").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_the_training_that_is_printed_runs(name: str, tmp_path: Path) -> None:
    write, _ = WRITERS[name]
    train = commands(inspect(write(tmp_path / "my data")))[-1]
    short = ("--max_steps", 1, "--skip_evaluation", "--output_dir", tmp_path / "run")
    run_command(*train, *short)
    assert (tmp_path / "run/adapter_model.safetensors").is_file()


def test_columns_are_mapped_and_those_left_are_named(tmp_path: Path) -> None:
    output = inspect(write_lines(tmp_path))
    found = facts(output)
    assert found["rows"] == "3"
    assert found["image"] == "column IMG"
    assert found["instruction"] == "column prompt"
    assert found["response"] == "column output"
    assert found["left"] == "split"
    assert found["images"] == "1 of the first 1 are there"
    wanted = {"--image_column": "IMG", "--metric": "exact_match"}  # answers of a word or two
    train = commands(output)[-1]
    assert train[:2] == ["train", "csv_qa"]
    assert {word: train[train.index(word) + 1] for word in wanted} == wanted


def test_missing_images_and_candidates_of_encodings_are_told(tmp_path: Path) -> None:
    path = write_table(tmp_path, "cp949")
    (tmp_path / "2.png").unlink()
    found = facts(inspect(path))
    lacking = f"2.png ({path}, line 4) does not exist in {tmp_path} or {tmp_path / 'images'}"
    assert found["images"].startswith(f"3 of the first 4 are there; {lacking} or this folder")
    assert "cp949 (무슨 색?)" in found["encoding"]


def test_nothing_in_a_cell_acts_on_the_terminal(tmp_path: Path) -> None:
    cells = ("a\x1b[2Jb.png", "line\nbreak \u202e", "x" * 100)
    output = inspect(
        write_csv(tmp_path / "t.csv", [("image", "query", "annotation"), cells], "utf-8")
    )
    assert "2  a\\x1b[2Jb.png | line\\nbreak \\u202e | " + "x" * 59 + "…\n" in output
    assert "\x1b" not in output and "\u202e" not in output


def test_a_large_table_is_read_at_its_beginning(tmp_path: Path) -> None:
    rows = [("image", "query", "annotation"), *[("a.png", "q" * 90, "r")] * 12_000]
    path = write_csv(tmp_path / "t.csv", rows, "utf-8")
    assert path.stat().st_size > 1 << 20
    assert facts(inspect(path))["rows"] == "about 12,001 (lines of the file)"


def write_parts(folder: Path, header: str, num_images: int = 4) -> Path:
    """A table as a spreadsheet of half of Europe writes it, with names that no guide has."""
    (folder / "photos").mkdir(parents=True)
    answers = ("red", "a ball", "blue", "a box")
    for number in range(num_images):
        Image.new("RGB", (8, 8)).save(folder / f"photos/{number}.jpg")
    lines = [f"photos/{n}.jpg;what is it?;{answers[n % 4]}" for n in range(num_images)]
    path = folder / "parts.csv"
    path.write_text("\n".join([header, *lines]))
    return path


@pytest.mark.parametrize("header", ["photo;question;label", "shot;question;label"])
def test_a_table_of_short_answers_is_right_or_wrong_and_its_commands_run(
    header: str, tmp_path: Path
) -> None:
    path = write_parts(tmp_path / "mine", header)
    output = inspect(path)
    found = facts(output)
    assert "a semicolon between columns" in output
    assert found["rows"] == "4"
    guessed = ", as its cells tell" if header.startswith("shot") else ""
    assert found["image"] == f"column {header.split(';')[0]}{guessed}"
    assert found["metric"] == "exact_match"
    check, _, train = commands(output)
    assert train[:2] == ["train", "csv_qa"]
    assert train[train.index("--metric") + 1] == "exact_match"
    assert "4 examples: 4 usable" in run_command(*check).output
    # the folder is described by its one table
    assert commands(inspect(path.parent)) == [check, _, train]
    shutil.copy(path, path.parent / "more.csv")
    assert [words[0] for words in commands(inspect(path.parent))] == ["inspect"] * 2


def test_columns_in_another_language_are_told_by_what_stands_in_them(tmp_path: Path) -> None:
    path = write_parts(tmp_path, "Bild;Frage;Antwort")
    output = inspect(path)
    found = facts(output)
    names = {"image": "Bild", "instruction": "Frage", "response": "Antwort"}
    assert {ours: found[ours] for ours in names} == {
        ours: f"column {name}, as its cells tell" for ours, name in names.items()
    }
    check, _, train = commands(output)
    for ours, name in names.items():
        assert train[train.index(f"--{ours}_column") + 1] == name
    assert "4 examples: 4 usable" in run_command(*check).output
    # where two columns may answer, none is guessed
    path = write_parts(tmp_path / "more", "Bild;Frage;Antwort")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]};Note", *(f"{line};x" for line in lines[1:])]))
    assert "--response_column says which one is meant." in inspect(path)


def test_several_answers_to_a_question_go_to_an_accuracy(tmp_path: Path) -> None:
    write_images(tmp_path)
    row = {"image": "0.png", "question": "which?", "answer": ["red", "crimson"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    output = inspect(tmp_path / "t.jsonl")
    assert facts(output)["metric"] == "vqa_accuracy"
    assert commands(output)[-1][:2] == ["train", "image_qa"]


@pytest.mark.parametrize("header", ["photo;question;label", "Bild;Frage;Antwort"])
def test_a_whole_table_is_split_and_its_parts_are_trained_and_scored_on(
    header: str, tmp_path: Path
) -> None:
    path = write_parts(tmp_path, header, num_images=10)
    split, *others, train = commands(inspect(path))
    assert [split[0], *(words[0] for words in others)] == ["split", "check", "preview"]
    run_command(*split)
    tables = [train[train.index(f"--{part}_csv") + 1] for part in ("train", "test")]
    for part, table in zip(("train", "test"), tables, strict=True):
        assert table == str(tmp_path / f"parts_{part}.csv") and Path(table).is_file()
    # what is split already is not split again, from whichever of its tables one comes
    for table in (path, *tables):
        assert commands(inspect(Path(table)))[-1] == train
        assert "palitune split" not in inspect(Path(table))


def test_the_parts_of_a_table_may_be_called_by_their_split_alone(tmp_path: Path) -> None:
    path = write_parts(tmp_path, "photo;question;label", num_images=10)
    for name in ("train", "valid", "test"):
        shutil.copy(path, tmp_path / f"{name}.csv")
    train = commands(inspect(tmp_path / "test.csv"))[-1]
    tables = [train[train.index(f"--{part}_csv") + 1] for part in ("train", "val", "test")]
    assert tables == [str(tmp_path / f"{name}.csv") for name in ("train", "valid", "test")]
    assert train[train.index("--output_dir") + 1] == "runs/csv_qa"


def test_folders_of_classes_become_a_table_by_two_lines(tmp_path: Path) -> None:
    for name in ("a cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "1.png").write_bytes(image_bytes("red"))
    output = inspect(tmp_path / "pets")
    assert "with 2 classes and no table" in output
    assert facts(output)["classes"] == "a cat (1), dog (1)"
    lines = output[output.index("cd ") :].splitlines()
    subprocess.run(["bash", "-c", "\n".join(lines[:2])], check=True)
    check = ("check", "--task", "csv_qa", "--csv", tmp_path / "pets/train.csv")
    assert run_command(*check).stdout.splitlines()[-1] == "2 examples: 2 usable, 0 reported"
    text = (tmp_path / "pets/train.csv").read_text()
    assert '"a cat/1.png","which class is it?","a cat"' in text


@pytest.mark.parametrize(
    ("task", "write"),
    [("docvqa", write_docvqa), ("gqa", write_gqa), ("coco_captioning", write_coco)],
)
def test_official_files_are_known(task: str, write: object, tmp_path: Path) -> None:
    assert callable(write)
    output = inspect(write(tmp_path))
    assert f"a folder with the official files of {task}\n" in output
    assert commands(output)[0] == ["check", "--task", task, "--data_root", str(tmp_path)]


def test_runs_evaluations_adapters_and_models_are_known(pico1: Path, tmp_path: Path) -> None:
    examples = [example(number) for number in range(3)]
    run = tmp_path / "run"
    save(run / "evaluation/val", [SHOWN[0]] * 3, examples)
    (run / "run.json").write_text(
        json.dumps({"task": "vqav2", "base_model": "b", "settings": {"data_root": "sample"}})
    )
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "org/base"}
    (run / "adapter_config.json").write_text(json.dumps(config))
    # one of three answers is right: 100 / 3
    output = inspect(run)
    assert f"{run}: a run of PaliTune\n" in output
    assert facts(output)["score val"] == "vqa_accuracy 33.33, 3 examples"
    assert commands(output)[0] == shlex.split(
        f"eval --task vqav2 --model_path {run} --data_root sample"
    )
    output = inspect(run / "evaluation/val")
    assert "an evaluation of PaliTune" in output
    run_command(*commands(output)[0])
    assert "predictions of PaliTune" in inspect(run / "evaluation/val/predictions.jsonl")
    (run / "run.json").unlink()
    assert facts(inspect(run))["base"] == "org/base"
    assert facts(inspect(pico1))["family"] == "paligemma"


def test_other_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"question_id": 1, "answer": "red"}]))
    assert "a results file of vqav2" in inspect(path)
    path.write_text(json.dumps([{"image": "a.png", "question": "?", "answer": "x"}]))
    output = inspect(path)
    assert "a JSON list of objects" in output
    subprocess.run(["bash", "-c", output.splitlines()[-1]], check=True)
    assert json.loads((tmp_path / "results.jsonl").read_text())["answer"] == "x"
    path.write_text("[{")
    assert "a damaged JSON file" in inspect(path)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"hello"])
def test_what_is_unknown_is_said_and_is_no_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    assert "nothing that PaliTune knows\nLooked for tables" in inspect(tmp_path / "x.bin")
    (tmp_path / "empty").mkdir()
    assert "empty: an empty folder" in inspect(tmp_path / "empty")


def test_the_columns_of_json_lines_are_the_keys_of_any_line(tmp_path: Path) -> None:
    row = {"image": "a.png", "question": "a?"}
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, [row, {**row, "answer": "x"}])))
    assert facts(inspect(tmp_path / "t.jsonl"))["response"] == "column answer"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".json", ".tar"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\xfe", b'"', b"[" * 9999, bytes(range(256))],
    ids=["empty", "marks", "quote", "nested", "all bytes"],
)
def test_a_damaged_file_is_described(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    assert inspect(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "said"), [("org/model", "--hub_repo"), ("t.csv", "t.csv does not exist here.")]
)
def test_what_is_not_there_is_an_error(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(palitune, ["inspect", name])
    assert said in sentence(result.exit_code, result.output)


def test_a_damaged_shard_is_told(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t.tar", {"1.png": image_bytes("red")})
    assert "t.tar, sample 1 has no text beside its image" in inspect(path)


def talk(number: int, *texts: str) -> dict[str, object]:
    """A record as LLaVA's tool writes it."""
    roles = ("human", "gpt") * len(texts)
    turns = [{"from": role, "value": text} for role, text in zip(roles, texts, strict=False)]
    return {"id": number, "image": f"{number}.png", "conversations": turns}


def test_conversations_are_counted_and_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([talk(n, "<image>\nwhich?", f"no {n}") for n in range(3)]))
    output = inspect(path)
    told = facts(output)
    assert output.startswith(f"{path}: conversations\n")
    assert told["conversations"] == "3"
    assert told["answers in each"] == told["images in each"] == "1 (3 x)"
    assert commands(output)[-1][:4] == ["train", "conversations", "--train_file", str(path)]
    assert "element 1  which? | no 0" in output
    two = [talk(0, "a?", "b", "c?", "d"), talk(1, "a?", "b"), {"conversations": [{"from": "x"}]}]
    path.write_text("\n".join(map(json.dumps, two)))
    output = inspect(path)
    assert facts(output)["answers in each"] == "1 (1 x), 2 (1 x)"
    assert "1 cannot be read" in output
    assert "tiny" not in output  # which takes one turn
    with path.open("a") as file:
        file.write("\n{")
    output = inspect(path)
    assert facts(output)["conversations"] == "3"
    assert "2 cannot be read" in output


def test_a_reader_that_leaves_ends_the_command_without_a_word(tmp_path: Path) -> None:
    path = write_lines(tmp_path)
    path.write_text((path.read_text() + "\n") * 3)
    command = f"{shlex.quote(sys.executable)} -m palitune.main inspect {shlex.quote(str(path))}"
    result = subprocess.run(
        ["bash", "-c", f"{command} | true"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.stderr == ""
