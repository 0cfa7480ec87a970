"""Bad input that only the machine, the tokenizer or the model shows."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from finetuning.training import prepare as finetune
from models import loading, quantization
from palitune.main import palitune
from tests.helpers import make_pico, sentence
from tests.official_files import write_docvqa, write_vqav2
from tests.palitune.bad_inputs import EVAL, QUESTIONS, TRAIN, edit


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
def test_an_optimiser_without_its_package_is_refused(fill: Callable[[str], str]) -> None:
    said = mistake(fill, TRAIN, "--optim", "galore_adamw")
    assert "optim galore_adamw cannot be used here (You need to install `galore_torch`" in said
    assert "take adamw_torch" in said


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
def test_an_image_that_may_not_be_read_is_named(
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
def test_a_truncated_image_is_named_by_whoever_reads_it(
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
