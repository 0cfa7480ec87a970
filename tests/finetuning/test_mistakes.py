"""Bad input: one sentence, exit code 2, nothing written, and no model loaded to find it out."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from finetuning.training import output_folder as run_folder
from finetuning.training import run as finetune
from models import loading, quantization
from palitune.main import palitune
from tests.finetuning.test_scripts import train
from tests.helpers import REPOSITORY, hashes, make_pico, sentence
from tests.official_files import write_docvqa, write_json, write_vqav2

QUESTIONS = "v2_OpenEnded_mscoco_{}2014_questions.json"
ANNOTATIONS = "v2_mscoco_{}2014_annotations.json"
FIRST_IMAGE = "train2014/COCO_train2014_000000000100.jpg"
# Found without the libraries that take seconds to import: this process does not even have them.
WITHOUT_HEAVY_LIBRARIES = """
import json, sys, time
for name in ("torch", "transformers", "peft", "accelerate"):
    sys.modules[name] = None
from click.testing import CliRunner
from palitune.main import palitune
results = {}
for name, arguments in json.load(sys.stdin).items():
    start = time.monotonic()
    result = CliRunner().invoke(palitune, arguments)
    error = repr(result.exception)
    results[name] = [result.exit_code, result.output, error, time.monotonic() - start]
print(json.dumps(results))
"""


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def write_bad_data(root: Path) -> None:
    """A folder for each way in which official files can be wrong."""
    for name in ("good", "no_images", "no_key", "cut_json", "one_image_absent", "no_examples"):
        write_vqav2(root / name)
    (root / "nothing").mkdir()
    (root / "no_images/train2014").rename(root / "no_images/elsewhere")
    edit(
        root / "no_key" / ANNOTATIONS.format("train"), lambda c: c["annotations"][1].pop("answers")
    )
    for split in ("train", "val"):
        path = root / "cut_json" / QUESTIONS.format(split)
        path.write_bytes(path.read_bytes()[:-20])
        image_id = {"train": 102, "val": 501}[split]
        (root / f"one_image_absent/{split}2014/COCO_{split}2014_{image_id:012d}.jpg").unlink()
        edit(root / "no_examples" / QUESTIONS.format(split), lambda c: c["questions"].clear())


def write_bad_models(root: Path, pico: Path) -> None:
    """A folder for each way in which a model can be wrong."""
    (root / "empty").mkdir(parents=True)
    write_json(root / "llama/config.json", {"model_type": "llama"})
    (root / "cut").mkdir()
    (root / "cut/config.json").write_text('{"model_type": "pali')
    adapter = {"base_model_name_or_path": str(pico), "peft_type": "LORA"}
    write_json(root / "adapter/adapter_config.json", adapter)
    write_json(root / "adapter_of_another/adapter_config.json", adapter)
    run = {"settings": {}, "base_fingerprint": "0123456789abcdef", "task": "vqav2"}
    write_json(root / "adapter_of_another/run.json", run)
    gone = {**adapter, "base_model_name_or_path": str(root / "gone")}
    write_json(root / "adapter_without_base/adapter_config.json", gone)


TRAIN = ("train", "vqav2", "--model_path", "{pico}", "--data_root", "{data}/good")
TRAIN += ("--output_dir", "{place}/new")
EVAL = ("eval", "--task", "vqav2", "--model_path", "{pico}", "--data_root", "{data}/good")
EVAL += ("--output_dir", "{place}/new")
# name: (command, options that come last and so win, parts of the sentence)
MISTAKES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    # what to do
    "unknown task": (EVAL, "--task vqa3", ("'vqa3'", "Did you mean vqav2?", "docvqa")),
    "unknown task to train": (("train", "vqa3"), "", ("'vqa3'",)),
    "unknown task to preview": (("preview", "--model_path", "tiny"), "--task x", ("'x'", "gqa")),
    "unknown option value": (TRAIN, "--quantization nf3", ("--quantization", "nf3", "'nf4'")),
    # data
    "data root absent": (TRAIN, "--data_root /no/such", ("--data_root /no/such does not exist",)),
    "data root a file": (EVAL, "--data_root {pico}/config.json", ("is not a folder",)),
    "data root empty": (
        TRAIN,
        "--data_root {data}/nothing",
        ("vqav2 split 'train'", QUESTIONS.format("train"), "--data_root"),
    ),
    "data of another task": (
        EVAL,
        "--task gqa",
        ("No files of gqa split 'testdev' under {data}/good",),
    ),
    "unknown split to train": (TRAIN, "--train_split dev", ("no split 'dev'", "train, val, test")),
    "unknown split to score": (EVAL, "--split dev", ("no split 'dev'", "train, val, test-dev")),
    "withheld split to train": (TRAIN, "--train_split test", ("split 'test' are withheld",)),
    "absent split": (TRAIN, "--data_root {data}/no_val --eval_split val", ("vqav2 split 'val'",)),
    "annotations without images": (
        TRAIN,
        "--data_root {data}/no_images",
        ("No images", "COCO_train2014_000000000100.jpg", "{data}/no_images/train2014"),
    ),
    "missing key": (
        TRAIN,
        "--data_root {data}/no_key",
        (ANNOTATIONS.format("train"), "`answers`", "$.annotations[1]"),
    ),
    "truncated JSON": (
        TRAIN,
        "--data_root {data}/cut_json",
        (QUESTIONS.format("train"), "is not complete JSON"),
    ),
    "truncated JSON to score": (
        EVAL,
        "--data_root {data}/cut_json",
        (QUESTIONS.format("val"), "is not complete JSON"),
    ),
    "image absent": (
        TRAIN,
        "--data_root {data}/one_image_absent",
        ("1 image(s) that do not exist", "COCO_train2014_000000000102.jpg"),
    ),
    "image to score absent": (
        EVAL,
        "--data_root {data}/one_image_absent",
        ("1 image(s) that do not exist", "COCO_val2014_000000000501.jpg"),
    ),
    "empty split": (TRAIN, "--data_root {data}/no_examples", ("is empty: it lists no example",)),
    "empty split to score": (EVAL, "--data_root {data}/no_examples", ("is empty",)),
    "column not named": (TRAIN, "--hub_columns answers", ("--hub_columns", "NAME=COLUMN")),
    "Hub data not reachable": (
        ("train", "vqav2", "--model_path", "{pico}"),
        "--output_dir {place}/new",
        ("Multimodal-Fatima/VQAv2_train", "the Hub cannot be reached", "--data_root"),
    ),
    # numbers
    "no example to train": (
        TRAIN,
        "--max_train_samples 0",
        ("max_train_samples must be at least 1, got 0",),
    ),
    "no example to score": (EVAL, "--max_eval_samples 0", ("--max_eval_samples", "0", ">=1")),
    "negative batch": (TRAIN, "--batch_size -1", ("batch_size must be at least 1, got -1",)),
    "negative batch to score": (EVAL, "--batch_size -1", ("--batch_size", "-1", ">=1")),
    "negative rank": (TRAIN, "--lora_rank -1", ("lora_rank must be at least 1, got -1",)),
    "negative rate": (TRAIN, "--learning_rate -1", ("learning_rate must be above 0, got -1",)),
    "rate not a number": (TRAIN, "--learning_rate nan", ("learning_rate must be above 0",)),
    "dropout of one": (TRAIN, "--lora_dropout 1", ("lora_dropout must be below 1, got 1",)),
    "text for a number": (TRAIN, "--lora_rank many", ("--lora_rank", "'many'", "integer")),
    "steps that do not fit": (TRAIN, "--save_steps 3 --eval_steps 2", ("3 and 2", "multiple")),
    "patience without scoring": (
        TRAIN,
        "--early_stopping_patience 2",
        ("early_stopping_patience needs eval_steps",),
    ),
    # text
    "field in the template": (
        TRAIN,
        "--prompt_template {{answer}}",
        ("{question}", "'{answer}'"),
    ),
    "brace in the template": (EVAL, "--prompt_template {{", ("{question}", "got '{'")),
    # model
    "model folder absent": (TRAIN, "--model_path /no/such", ("No model at '/no/such'", "tiny")),
    "model folder empty": (TRAIN, "--model_path {models}/empty", ("nor adapter_config.json",)),
    "model not served": (EVAL, "--model_path {models}/llama", ("type 'llama'", "paligemma")),
    "config truncated": (EVAL, "--model_path {models}/cut", ("cut/config.json is not valid JSON",)),
    "adapter to train": (TRAIN, "--model_path {models}/adapter", ("is an adapter", "{pico}")),
    "base model for no adapter": (EVAL, "--base_model {pico}", ("--base_model goes with an",)),
    "adapter of another base": (
        EVAL,
        "--model_path {models}/adapter_of_another",
        ("adapter_of_another was trained on {pico}", "other weights", "--base_model"),
    ),
    "base of the adapter gone": (
        EVAL,
        "--model_path {models}/adapter_without_base",
        ("{models}/gone", "--base_model"),
    ),
    "Hub model not reachable": (
        TRAIN,
        "--model_path some/model",
        ("some/model", "the Hub cannot be reached", "HF_HUB_OFFLINE=1"),
    ),
    # output
    "output in use": (
        TRAIN,
        "--output_dir {used}",
        ("{used} is not empty", "--resume", "--overwrite"),
    ),
    "output a file": (TRAIN, "--output_dir {pico}/config.json", ("is a file",)),
    "output to score a file": (EVAL, "--output_dir {pico}/config.json/x", ("is a file",)),
    "nothing to resume": (TRAIN, "--resume", ("Nothing to resume", "{place}/new/checkpoints")),
    "resume and overwrite": (TRAIN, "--resume --overwrite", ("--resume", "pass one of them")),
    "resume with another rank": (
        TRAIN,
        "--output_dir {used} --resume --max_steps 4 --lora_rank 5",
        ("had --lora_rank 4, not 5",),
    ),
    "resume with other data": (
        TRAIN,
        "--output_dir {used} --resume --max_steps 4 --max_train_samples 2",
        ("had train_data", "'num_examples': 4", "'num_examples': 2"),
    ),
    # around
    "config absent": (TRAIN, "--config {place}/no.json", ("no.json", "No such file")),
    "config not JSON": (TRAIN, "--config {data}/cut_json/{questions}", ("is not valid JSON",)),
    "config of something else": (TRAIN, "--config {pico}/config.json", ("not a run.json",)),
    "W&B without login": (TRAIN, "--use_wandb", ("wandb login", "WANDB_API_KEY", "offline")),
    "W&B without login, long form": (TRAIN, "--report_to wandb", ("wandb login",)),
}


@pytest.fixture(scope="module")
def place(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bad data, bad models, and the run of two steps that some would damage."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_bad_data(folder / "data")
    write_vqav2(folder / "data/no_val", num_val=0)
    write_bad_models(folder / "models", pico1)
    train("vqav2", pico1, folder / "data/good", folder / "used", "--max_steps", 2)
    (folder / "home").mkdir()
    return folder


@pytest.fixture(scope="module")
def fill(place: Path, pico1: Path) -> Callable[[str], str]:
    """Puts the folders of this run into a text."""
    return lambda text: text.format(
        place=place,
        data=place / "data",
        models=place / "models",
        used=place / "used",
        pico=pico1,
        questions=QUESTIONS.format("train"),
        question="{question}",
        answer="{answer}",
    )


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    """Nobody is logged in anywhere, and no Hub answers at that address."""
    hidden = ("HF_", "WANDB_", "PALITUNE_", "NETRC")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    return kept | {"HOME": str(place / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def outcomes(
    place: Path, fill: Callable[[str], str], environment: dict[str, str]
) -> dict[str, list[Any]]:
    """What each of the mistakes gave: exit code, output, exception, seconds."""
    before = hashes(place)
    commands = {
        name: [fill(part) for part in (*command, *options.split())]
        for name, (command, options, _) in MISTAKES.items()
    }
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY_LIBRARIES],
        input=json.dumps(commands), cwd=place, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert hashes(place, leave_out="home") == before
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_found_without_torch_and_leaves_no_file(
    name: str, outcomes: dict[str, list[Any]], fill: Callable[[str], str]
) -> None:
    exit_code, output, error, seconds = outcomes[name]
    assert error.startswith("SystemExit"), error
    message = sentence(exit_code, output)
    for part in MISTAKES[name][2]:
        assert (part if part.startswith(("{q", "'{", "got '{")) else fill(part)) in message
    assert seconds < 5


@pytest.mark.parametrize("name", ["unknown task", "data root absent", "Hub model not reachable"])
def test_as_a_user_meets_it_a_mistake_is_said_in_five_seconds(
    name: str, place: Path, fill: Callable[[str], str], environment: dict[str, str]
) -> None:
    command, options, parts = MISTAKES[name]
    arguments = [fill(part) for part in (*command, *options.split())]
    names = [REPOSITORY / "eval.py"]
    if command is TRAIN:
        names = [REPOSITORY / "finetuning/vqav2.py"]
        arguments = arguments[1:]
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, *names, *arguments[1:]],
        cwd=place, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert time.monotonic() - start < 5
    assert fill(parts[0]) in sentence(result.returncode, result.stderr)
    assert result.stderr.count("\n") == 1


# What needs the machine to be other than it is, or a tokenizer, or the model.


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load_model", refuse)
    monkeypatch.setattr(finetune, "load_model", refuse)


def invoke(fill: Callable[[str], str], command: tuple[str, ...], *more: object) -> Result:
    arguments = [fill(part) for part in command]
    return CliRunner().invoke(palitune, [*arguments, *map(str, more)])


def mistake(fill: Callable[[str], str], command: tuple[str, ...], *more: object) -> str:
    result = invoke(fill, command, *more)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    return sentence(result.exit_code, result.output)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_a_data_folder_that_may_not_be_read_is_named(
    command: tuple[str, ...], fill: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list_folder = os.listdir

    def refuse(folder: Any) -> list[str]:
        if str(folder).endswith("good"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return list_folder(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    assert fill("{data}/good cannot be read: Permission denied") in mistake(fill, command)


@pytest.mark.usefixtures("no_model")
def test_a_picture_that_may_not_be_read_is_named(
    fill: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Any) -> Iterator[Any]:
        if str(folder).endswith("train2014"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    assert "good/train2014 cannot be read: Permission denied" in mistake(fill, TRAIN)


@pytest.mark.usefixtures("no_model")
def test_an_absent_bitsandbytes_is_said_with_what_to_do(
    fill: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    message = mistake(fill, TRAIN)
    assert "--quantization nf4 needs bitsandbytes" in message and "none" in message
    assert "int8 needs bitsandbytes" in mistake(fill, EVAL, "--quantization", "int8")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", [TRAIN, EVAL])
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_an_absent_gpu_is_said_with_what_to_do(
    command: tuple[str, ...],
    device: str,
    fill: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    message = mistake(fill, command, "--device", device)
    assert f"--device {device}" in message and "pass --device cpu" in message


@pytest.mark.usefixtures("no_model")
def test_training_on_another_than_the_first_gpu_names_the_variable(
    fill: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert "set CUDA_VISIBLE_DEVICES=2" in mistake(fill, TRAIN, "--device", "cuda:2")


@pytest.mark.usefixtures("no_model")
def test_an_unknown_optimiser_lists_those_accepted(fill: Callable[[str], str]) -> None:
    message = mistake(fill, TRAIN, "--optim", "adam")
    assert "adamw_torch" in message and message.endswith("got adam.")


@pytest.mark.usefixtures("no_model")
def test_an_unknown_device_lists_those_accepted(fill: Callable[[str], str]) -> None:
    assert "auto, cpu, cuda or cuda:N, got tpu" in mistake(fill, TRAIN, "--device", "tpu")


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_a_read_only_output_folder_is_named(
    command: tuple[str, ...], fill: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    message = mistake(fill, command)
    assert fill("--output_dir {place}/new cannot be written: {place} is read-only") in message


@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_a_disk_that_turns_out_read_only_on_writing_is_one_sentence(
    command: tuple[str, ...],
    fill: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(source), None, str(target))

    monkeypatch.setattr(os, "replace", refuse)
    message = mistake(fill, command, "--output_dir", tmp_path / "new")
    assert str(tmp_path / "new") in message and "Read-only file system" in message


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("command", "example_id"), [(TRAIN, 100000), (EVAL, 500000)], ids=["train", "eval"]
)
def test_a_text_over_the_budget_is_named_before_the_model_is_loaded(
    command: tuple[str, ...], example_id: int, fill: Callable[[str], str]
) -> None:
    message = mistake(fill, command, "--max_length", "8")
    assert f"Example {example_id} has " in message and "the budget is 8" in message
    assert "--max_length" in message and "--truncate" in message


@pytest.mark.usefixtures("no_model")
def test_a_text_to_score_over_the_budget_is_found_before_the_training(
    fill: Callable[[str], str], tmp_path: Path
) -> None:
    write_vqav2(tmp_path)
    path = tmp_path / QUESTIONS.format("val")
    edit(path, lambda content: content["questions"][1].update(question="why " * 99))
    assert "Example 501000 has " in mistake(fill, TRAIN, "--data_root", tmp_path)


@pytest.mark.usefixtures("no_model")
def test_an_answer_over_the_budget_is_never_cut(fill: Callable[[str], str], tmp_path: Path) -> None:
    write_docvqa(tmp_path, "b")
    path = tmp_path / "train_v1.0_withQT.json"
    edit(path, lambda content: content["data"][0].update(answers=["9" * 300]))
    command = ("train", "docvqa", *TRAIN[2:])
    message = mistake(fill, command, "--data_root", tmp_path, "--max_length", 64, "--truncate")
    assert "Example 100: its answer alone is over the text budget" in message


def test_prompts_cut_to_the_budget_are_counted(fill: Callable[[str], str], tmp_path: Path) -> None:
    write_vqav2(tmp_path / "data")
    path = tmp_path / "data" / QUESTIONS.format("val")
    edit(path, lambda content: content["questions"][1].update(question="why " * 99))
    options = ("--data_root", tmp_path / "data", "--output_dir", tmp_path / "out", "--truncate")
    result = invoke(fill, EVAL, *options, "--max_new_tokens", 2)
    assert result.exit_code == 0, result.output
    assert "1 of 3 prompts are cut to the budget of 64 text tokens." in result.stderr
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    assert prompts[1].startswith("answer en why why") and len(prompts[1]) < 4 * 99
    assert prompts[0] == "answer en what color is the picture?"


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("command", [TRAIN, EVAL])
def test_a_truncated_picture_is_named_by_whoever_reads_it(
    command: tuple[str, ...], num_workers: int, fill: Callable[[str], str], tmp_path: Path
) -> None:
    data = write_vqav2(tmp_path / "data")
    split, image_id = ("train", 102) if command is TRAIN else ("val", 502)
    path = data / f"{split}2014/COCO_{split}2014_{image_id:012d}.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    options = ("--data_root", data, "--output_dir", tmp_path / "new", "--num_workers", num_workers)
    message = mistake(fill, command, *options)
    assert message.startswith(f"{path} is truncated or damaged (")


def test_an_adapter_whose_shapes_do_not_fit_is_refused(
    fill: Callable[[str], str], place: Path, tmp_path: Path
) -> None:
    other = make_pico(tmp_path / "other", "gemma2", seed=1)
    edit(
        other / "config.json",
        lambda config: config["text_config"].update(intermediate_size=192),
    )
    from transformers import AutoConfig, AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(other))
    model.save_pretrained(other)
    shutil.copytree(place / "used", tmp_path / "adapter")
    (tmp_path / "adapter/run.json").unlink()  # then its base is not known by fingerprint
    options = ("--model_path", tmp_path / "adapter", "--base_model", other)
    message = mistake(fill, EVAL, *options)
    assert f"does not fit base model {other}" in message and "--base_model" in message


def test_a_damaged_weight_file_is_named(
    fill: Callable[[str], str], place: Path, pico1: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "used", tmp_path / "adapter")
    shutil.copytree(pico1, tmp_path / "base")
    for path in (
        tmp_path / "adapter/adapter_model.safetensors",
        tmp_path / "base/model.safetensors",
    ):
        path.write_bytes(path.read_bytes()[:-100])
        assert str(path.parent) in mistake(fill, EVAL, "--model_path", path.parent)


# Checkpoints


def write_checkpoint(folder: Path) -> Path:
    """The files of a checkpoint in their formats, with next to nothing in them."""
    import numpy as np

    folder.mkdir(parents=True)
    tensors = {"lora_A": np.ones((2, 2), dtype=np.float32)}
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("data.pkl", b"0" * 200)
    write_json(folder / "trainer_state.json", {"global_step": 1})
    return folder


CHECKPOINT_FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
)


@pytest.mark.parametrize("size", [None, 0, -5])
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_checkpoint_with_a_file_absent_empty_or_cut_is_passed_over(
    name: str, size: int | None, tmp_path: Path
) -> None:
    older = write_checkpoint(tmp_path / "checkpoints/checkpoint-9")
    newest = write_checkpoint(tmp_path / "checkpoints/checkpoint-10")
    assert run_folder.last_checkpoint(tmp_path) == newest
    content = (newest / name).read_bytes()
    (newest / name).unlink()
    if size is not None:
        (newest / name).write_bytes(content[:size])
    assert run_folder.last_checkpoint(tmp_path) == older


def test_a_real_checkpoint_counts_as_whole(place: Path) -> None:
    last = run_folder.last_checkpoint(place / "used")
    assert last.name == "checkpoint-2"
    assert set(CHECKPOINT_FILES) <= {path.name for path in last.iterdir()}
