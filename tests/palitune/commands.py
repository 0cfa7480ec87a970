"""The scripts as a user calls them, and the checks of what a run and a scoring leave."""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from palitune.main import palitune
from tasks.registry import get_task
from tests.helpers import REPOSITORY
from tests.official_files import (
    write_coco,
    write_docvqa,
    write_gqa,
    write_hub_copy,
    write_vqav2,
)

WRITERS: dict[str, Any] = {
    "vqav2": write_vqav2,
    "docvqa": write_docvqa,
    "gqa": write_gqa,
    "coco_captioning": write_coco,
}
HUB_COPY = "saved Hub copy"
DEFAULT_SPLIT = {"vqav2": "val", "docvqa": "val", "gqa": "testdev", "coco_captioning": "val"}
HEADLINE = {
    "vqav2": "vqa_accuracy",
    "docvqa": "anls",
    "gqa": "accuracy",
    "coco_captioning": "CIDEr",
}
METRICS = {
    "vqav2": ["vqa_accuracy"],
    "docvqa": ["anls", "accuracy"],
    "gqa": [
        "accuracy", "binary", "open", "consistency", "validity", "plausibility", "distribution"
    ],
    "coco_captioning": [
        "CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "SPICE"
    ],
}  # fmt: skip
BREAKDOWN = {
    "vqav2": {"answer_type": {"number", "other"}, "question_type": {"what color is the"}},
    "docvqa": {"question_type": {"layout", "form"}},
    "gqa": {
        "structural": {"query", "verify"}, "semantic": {"attr"}, "words": {"3", "4"}, "steps": {"2"}
    },
    "coco_captioning": {},
}  # fmt: skip
BRIEF = ("--max_new_tokens", "4", "--batch_size", "4")


def write_data(folder: Path, task: str, layout: str) -> Path:
    return write_hub_copy(folder, task) if layout == HUB_COPY else WRITERS[task](folder, layout)


def script(name: str) -> click.Command:
    """The command of a script; eval.py lies outside every package."""
    if name != "eval":
        return importlib.import_module(f"finetuning.{name}").main  # type: ignore[no-any-return]
    spec = importlib.util.spec_from_file_location("eval_script", REPOSITORY / "eval.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main  # type: ignore[no-any-return]


def run(name: str, *arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(script(name), [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def run_command(*arguments: object, exit_code: int = 0) -> Result:
    """A command of `palitune`."""
    result = CliRunner().invoke(palitune, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def train(
    task: str, pico: Path, data: Path, output_dir: Path, *more: object, exit_code: int = 0
) -> Result:
    return run(
        task, "--model_path", pico, "--data_root", data, "--output_dir", output_dir,
        "--batch_size", 2, "--lora_rank", 4, "--save_steps", 1, "--logging_steps", 1, *more,
        exit_code=exit_code,
    )  # fmt: skip


def evaluate(task: str, model: Path, data: Path, *more: object, exit_code: int = 0) -> Result:
    asked = ("--task", task, "--model_path", model, "--data_root", data)
    return run("eval", *asked, *BRIEF, *more, exit_code=exit_code)


def check_metrics(
    metrics: Mapping[str, Any], task: str, num_examples: int, split: str = ""
) -> None:
    """The fixed shape: these keys, plain numbers, null for what is not available."""
    fixed = ["task", "split", "num_examples", "metric", "value", "metrics", "breakdown"]
    assert list(metrics)[:7] == fixed
    assert set(metrics) - {"reasons", "notes", "training"} == {*fixed, "uncertainty", "provenance"}
    assert metrics["uncertainty"]["standard_error"] >= 0
    assert (metrics["task"], metrics["split"]) == (task, split or DEFAULT_SPLIT[task])
    assert metrics["num_examples"] == num_examples
    assert metrics["metric"] == HEADLINE[task]
    assert isinstance(metrics["value"], float)
    assert metrics["value"] == metrics["metrics"][HEADLINE[task]]
    assert list(metrics["metrics"]) == METRICS[task]
    for name, value in metrics["metrics"].items():
        assert isinstance(value, float) if value is not None else name in metrics["reasons"]
    assert {tag: set(table) for tag, table in metrics["breakdown"].items()} == BREAKDOWN[task]
    for table in metrics["breakdown"].values():
        assert all(isinstance(value, float) for value in table.values())


def check_provenance(
    found: dict[str, Any], task: str, folder: Path, pico: Path, max_new_tokens: int = 0
) -> None:
    """What a score of an adapter stands on."""
    adapter = (folder / "adapter_model.safetensors").read_bytes()
    assert found["adapter_sha256"] == hashlib.sha256(adapter).hexdigest()
    assert (found["base_model"], found["trained_on"]) == (str(pico), [task])
    assert found["quantization"] == "nf4"
    assert found["prompt_template"] == get_task(task).prompt("paligemma")
    assert found["decoding"] == {
        "num_beams": 2 if task == "coco_captioning" else 1,
        "max_new_tokens": max_new_tokens or get_task(task).max_new_tokens,
        "min_new_tokens": 0,
        "do_sample": False,
    }
    assert found["data"]["num_examples"] == 3
    assert found["rule"] == get_task(task).rule and found["rule_source"].startswith("https://")
    assert {"torch", "transformers", "peft"} <= set(found["versions"])


KEYS = [
    *("id", "question", "image", "tags", "prompt", "raw_prediction", "prediction", "references"),
    "score",
]


def check_predictions(rows: list[dict[str, Any]], task: str, num_examples: int) -> None:
    assert len(rows) == num_examples
    for row in rows:
        assert list(row) == KEYS
        assert isinstance(row["id"], str if task == "gqa" else int)
        assert isinstance(row["score"], float)
        assert row["references"] and all(isinstance(answer, str) for answer in row["references"])
    assert rows[1]["prompt"] == {
        "vqav2": "answer en what color is the picture?",
        "docvqa": "What color is the page?",
        "gqa": "answer en What color is it?",
        "coco_captioning": "caption en",
    }[task]  # fmt: skip
