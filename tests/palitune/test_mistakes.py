"""Bad input: one sentence, exit code 2, nothing written, and no model loaded to find it out."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import REPOSITORY, hashes, sentence
from tests.palitune.bad_inputs import ANNOTATIONS, EVAL, QUESTIONS, TRAIN

# Found without the libraries that take seconds to import: this process does not even have them.
WITHOUT_HEAVY_LIBRARIES = """
import json, sys, time
for name in ("torch", "transformers", "peft", "accelerate"):
    sys.modules[name] = None
from click.testing import CliRunner
from palitune.main import palitune
results = {}
for name, arguments in json.load(sys.stdin).items():
    start = time.process_time()
    result = CliRunner().invoke(palitune, arguments)
    error = repr(result.exception)
    results[name] = [result.exit_code, result.output, error, time.process_time() - start]
print(json.dumps(results))
"""
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
    "rate not a number": (TRAIN, "--learning_rate nan", ("learning_rate must be a finite number",)),
    "rate without end": (TRAIN, "--learning_rate inf", ("learning_rate must be a finite", "inf")),
    "dropout of one": (TRAIN, "--lora_dropout 1", ("lora_dropout must be below 1, got 1",)),
    "text for a number": (TRAIN, "--lora_rank many", ("--lora_rank", "'many'", "integer")),
    "no such schedule": (TRAIN, "--lr_scheduler_type saw", ("--lr_scheduler_type", "cosine")),
    "warming up what is constant": (
        TRAIN,
        "--lr_scheduler_type constant --warmup_steps 3",
        ("warmup_steps has no effect", "constant_with_warmup"),
    ),
    "a seed too large": (TRAIN, "--seed 4294967296", ("seed must be at most 4294967295",)),
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
    "nothing to resume": (TRAIN, "--resume", ("Nothing to resume", "{place}/new", "run.json")),
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
def environment(place: Path) -> dict[str, str]:
    """Nobody is logged in anywhere, and no Hub answers at that address."""
    hidden = ("HF_", "WANDB_", "PALITUNE_", "NETRC")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    # the place has a folder `models`, which `python -c` would take for ours
    safe = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(REPOSITORY)}
    return kept | safe | {"HOME": str(place / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}


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
    start = time.process_time()
    result = subprocess.run(
        [sys.executable, *names, *arguments[1:]],
        cwd=place, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert time.process_time() - start < 5
    assert fill(parts[0]) in sentence(result.returncode, result.stderr)
    *before, _ = result.stderr.splitlines()
    header = [line for line in before if line.startswith(("Fine-tune on vqav2", "Score a ", "  "))]
    assert before == header
