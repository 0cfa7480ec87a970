"""What users type and what they read from files stays as it is, unless a snapshot says so.

The snapshots lie in `tests/public_surface/`; `make public-surface` writes them anew.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from merging.algebra.modes import MODES
from models.registry import FAMILIES
from palitune.main import palitune
from tasks.registry import get_task, task_names
from tests.merging.algebra.make_adapters import load_tiny, train
from tests.public_surface import check_file, check_snapshot

DIGITS = ("--data_root", "sample", "--device", "cpu", "--quantization", "none")
EXIT_CODES = (
    "--help",
    "tasks",
    "no-such-command",
    "train",
    "train digits --help",
    "train no_such_task",
    "train digits --no_such_option",
    "train digits --lora_rank 0",
    "train digits --model_path no/such/model/here",
    "train digits --model_path tiny --data_root no_such_folder",
    "train --task digits,digits",
    "train --task digits,vqav2 --help",
    "eval --help",
    "eval",
    "eval --task digits",
    "eval --task no_such_task --model_path tiny",
    "eval --task digits --model_path tiny --predictions file",
    "compare",
    "compare no_such_a no_such_b",
    "serve --help",
    "serve",
    "serve --model_path no/such/model/here --task vqav2 --port 0",
    "merge --help",
    "merge",
    "merge --base_model tiny --model_a no_such_folder --output out",
    "merge --base_model tiny --model_a no_such_folder --mode no_such_mode",
    "preview",
    "preview --task no_such_task --model_path tiny",
    "doctor",
    "doctor --model_path ./no_such_folder",
    "demo --help",
    "demo --max_steps 0",
    "ablate",
    "ablate --config no_such_file",
    "pipeline",
    "pipeline run",
    "pipeline eval-base --model_id tiny",
    "pipeline no-such-step",
    "push",
    "push no_such_folder me/digits",
    "push no_such_folder digits",
)


def invoke(*arguments: object) -> None:
    result = CliRunner().invoke(palitune, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def commands(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        path = f"{above} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, path)
        else:
            yield path, command


def described(parameter: click.Parameter) -> dict[str, Any]:
    info = parameter.to_info_dict()
    kept = ("opts", "secondary_opts", "required", "nargs", "multiple", "type", "default")
    kept = (*kept, "is_flag", "flag_value", "param_type_name")
    return {key: info[key] for key in kept if key in info}


def test_every_command_has_its_options_with_their_types_and_defaults() -> None:
    found = dict(commands(palitune, "palitune"))
    group = palitune.commands["train"]
    assert isinstance(group, click.Group)
    joint = group.get_command(click.Context(group), "--task gqa,vqav2")
    assert joint is not None
    found["palitune train --task gqa,vqav2"] = joint
    surface = {
        path: [described(parameter) for parameter in command.params]
        for path, command in found.items()
    }
    text = json.dumps(surface, default=lambda value: None if callable(value) else str(value))
    check_snapshot("commands", json.loads(text))


def test_every_task_mode_and_family_keeps_its_name() -> None:
    tasks = {
        task.name: {"aliases": task.aliases, "metric": task.metric, "splits": task.splits}
        for task in map(get_task, task_names())
    }
    families = {f.name: {"aliases": f.aliases, "model_types": f.model_types} for f in FAMILIES}
    names = {"tasks": tasks, "modes": list(MODES), "families": families}
    check_snapshot("names", json.loads(json.dumps(names)))


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MODEL_ID", "DATASET"):
        monkeypatch.delenv(name, raising=False)
    codes = {line: CliRunner().invoke(palitune, line.split()).exit_code for line in EXIT_CODES}
    check_snapshot("exit_codes", codes)


def test_the_files_of_a_training_and_of_an_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    brief = ("--max_new_tokens", "1", "--max_eval_samples", "4")
    training = ("--max_steps", "2", "--logging_steps", "1", "--batch_size", "2")
    training += ("--num_viz_samples", "1")
    invoke(
        "train", "digits", "--model_path", "tiny", "--output_dir", run, *DIGITS, *brief, *training
    )
    check_file("run", run / "run.json")
    check_file("metrics_of_a_training", run / "evaluation" / "val" / "metrics.json")
    check_file("predictions", run / "evaluation" / "val" / "predictions.jsonl")
    more = ("--lenient", "--text_metrics", "--output_dir", tmp_path / "scores")
    invoke("eval", "--model_path", run, *DIGITS, *brief, *more)
    check_file("metrics_of_an_evaluation", tmp_path / "scores" / "metrics.json")
    invoke(
        "compare", run / "evaluation" / "val", tmp_path / "scores", "--output", tmp_path / "c.json"
    )
    check_file("comparison", tmp_path / "c.json")
    names = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    check_snapshot("files_of_a_training", [name for name in names if "checkpoint-" not in name])


def test_the_files_of_a_merge(tmp_path: Path) -> None:
    layers = r".*language_model\.layers\.[01]\.self_attn\.q_proj"
    for name in "ab":
        train(load_tiny(), tmp_path / name, r=2, lora_alpha=4, target_modules=layers)
        record = {"task": "digits", "settings": {"quantization": "none", "max_new_tokens": 1}}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    adapters = ("--model_a", tmp_path / "a", "--model_b", tmp_path / "b")
    scores = ("--evaluate", "digits", "--data_root", "sample", "--max_eval_samples", "200")
    out = tmp_path / "merged"
    sweep = ("--sweep", "mode=linear,ties lambda=0.5", "--batch_size", "100", "--device", "cpu")
    invoke("merge", "--base_model", "tiny", *adapters, "--output", out, *scores, *sweep)
    candidates = [row["name"] for row in json.loads((out / "sweep.json").read_text())["candidates"]]
    assert candidates == ["linear lambda=0.5", "ties lambda=0.5"]
    data = ("modules", "scores", "intervals_95", "retention", "summands", "kept_share")
    check_file("merge_report", out / "merge_report.json", any_key=data)
    check_file("sweep", out / "sweep.json")
    check_file("run_of_a_merge", out / "run.json")


def write_tables(folder: Path, number: int) -> dict[str, str]:
    tables = {}
    for split in ("train", "val", "test"):
        rows = ["image,instruction,response"]
        for index in range(number):
            Image.new("RGB", (32, 32), (40 * index, 0, 99)).save(folder / f"{split}{index}.png")
            rows.append(f"{split}{index}.png,what is it?,red")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
        tables[f"{split}_csv"] = str(folder / f"{split}.csv")
    return tables


@pytest.mark.slow
def test_the_files_of_a_grid(tmp_path: Path, pico1: Path) -> None:
    grid = {
        "experiment_name": "try",
        "output_dir": str(tmp_path / "results"),
        "data": write_tables(tmp_path, 3),
        "models": [{"name": "pali", "hf_model_id": str(pico1)}],
        "lora_variants": [{"name": "r2", "r": 2, "quantization": "none"}],
        "training": {"max_steps": 1, "generation_max_new_tokens": 1},
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid))
    invoke("ablate", "--config", tmp_path / "grid.yaml")
    check_file("ablation_summary", tmp_path / "results" / "try" / "ablation_summary.json")
    record = tmp_path / "results" / "try" / "pali__r2" / "generation_metrics.json"
    check_file("generation_metrics", record)


@pytest.mark.slow
def test_the_files_of_a_pipeline(
    tmp_path: Path, pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset, DatasetDict

    monkeypatch.chdir(tmp_path)
    images = [Image.new("RGB", (32, 32), (9 * n, 0, 99)) for n in range(6)]
    rows = {"image": images, "question": ["what is it?"] * 6, "answer": ["red"] * 6}
    parts = {name: Dataset.from_dict(rows) for name in ("train", "validation", "test")}
    # no image may stand in two parts
    for shift, name in enumerate(parts):
        moved = [Image.new("RGB", (32, 32), (9 * n, 80 * shift, 9)) for n in range(6)]
        parts[name] = Dataset.from_dict({**rows, "image": moved})
    DatasetDict(parts).save_to_disk(tmp_path / "data")
    brief = "max_steps: 1\nper_device_train_batch_size: 2\ngeneration_max_new_tokens: 1\n"
    (tmp_path / "train.yaml").write_text(brief)
    (tmp_path / "peft.yaml").write_text("r: 2\nquantization: none\n")
    files = ("--train_config_path", "train.yaml", "--peft_config_path", "peft.yaml")
    invoke("pipeline", "run", "--model_id", pico1, "--dataset", "data", *files)
    names = sorted(
        path.relative_to(tmp_path).as_posix()
        for place in ("dataset", "results")
        for path in (tmp_path / place).rglob("*.json")
        if "checkpoint-" not in path.as_posix() and "tokenizer" not in path.name
    )
    check_snapshot("files_of_a_pipeline", names)
    evaluation = tmp_path / "results" / "evaluation"
    for name in ("base_vlm_model_evaluation", "finetuned_vlm_model_evaluation"):
        check_file(name, evaluation / f"{name}.json")
    for place in ("model", "deployment_model"):
        check_file(f"pipeline_of_{place}", tmp_path / "results" / place / "pipeline.json")
