"""The steps, with a double in place of the commands that they start."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from safetensors.torch import load_file, save_file

from experiments import pipeline
from experiments.pipeline_report import comparison
from models.checkpoint import TINY, resolve
from palitune.main import palitune
from tests.experiments.pipeline.helpers import Commands, save_parts, steps, write_yaml


def test_run_is_the_four_steps_and_says_what_it_found_done(root: Path, commands: Commands) -> None:
    first = steps("run").output
    assert commands.names == ["eval", "train", "merge", "eval"]
    for file in (
        *("dataset/raw/dataset_dict.json", "results/model/adapter_model.safetensors"),
        *("results/deployment_model/model.safetensors", "results/evaluation/comparison.md"),
    ):
        assert (root / file).is_file()
    evaluation = root / "results" / "evaluation"
    base, tuned = (
        json.loads((evaluation / f"{name}_vlm_model_evaluation.json").read_text())
        for name in ("base", "finetuned")
    )
    assert (base["value"], tuned["value"], tuned["adapter"]["value"]) == (10.0, 60.0, 61.5)
    assert tuned["deployment_gap"] == -1.5  # 60 - 61.5
    written = (evaluation / "comparison.md").read_text()
    for row in (
        "| vqa_accuracy | 10 | 60 | +50 |",
        "| sacrebleu | 20 | 120 | +100 |",
        "| rouge_l | 0.1 | 0.6 | +0.5 |",
        "(gap -1.5)",
    ):
        assert row in written and row in first
    before = {path: path.read_bytes() for path in (root / "results").rglob("*") if path.is_file()}
    again = steps("run").output
    assert len(commands.calls) == 4
    for step in ("download-dataset", "eval-base", "train", "deployment model", "eval-finetuned"):
        assert f"{step}: done before" in again
    assert {path: path.read_bytes() for path in before} == before


def test_the_commands_get_data_model_and_folders(root: Path, commands: Commands) -> None:
    steps("run", "--max-samples", 3, "--onto", "original")
    base, trained, merged, tuned = (
        dict(zip(words, [*words[1:], ""], strict=True)) for words in commands.calls
    )
    model = os.environ["MODEL_ID"]
    assert base["--model_path"] == trained["--model_path"] == merged["--base_model"] == model
    assert tuned["--model_path"] == "results/deployment_model"
    assert merged["--model_a"] == trained["--output_dir"] == "results/model"
    assert (merged["--onto"], merged["--export"]) == ("original", "full")
    for options in (base, trained, tuned):
        assert options["--data_root"] == "dataset/raw"
        assert options["--max_eval_samples"] == "3"
    assert trained["--max_train_samples"] == "3"


def test_a_failed_step_is_done_anew_and_those_before_it_are_not(
    root: Path, commands: Commands
) -> None:
    commands.fails = "deployment model"
    steps("run", exit_code=1)
    assert not list((root / "results").glob("deployment_model*"))
    commands.fails = None
    steps("run")
    assert commands.names == ["eval", "train", "merge", "merge", "eval"]


def test_what_an_interrupted_training_left_is_gone_on_with_or_replaced(
    root: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.training import output_folder as run_folder

    steps("download-dataset")
    (root / "results" / "model").mkdir(parents=True)
    (root / "results" / "model" / "run.json").write_text("{}")
    commands.fails = "train"
    steps("train", exit_code=1)
    assert commands.calls[-1][-1] == "--overwrite"
    monkeypatch.setattr(run_folder, "newest", lambda folder: folder)
    assert "going on with the interrupted training" in steps("train", exit_code=1).output
    assert commands.calls[-1][-1] == "--resume"


def test_an_interrupted_evaluation_of_the_same_is_gone_on_with(
    root: Path, commands: Commands
) -> None:
    steps("download-dataset")
    commands.fails = "eval-base"
    steps("eval-base", exit_code=1)
    assert "--resume" not in commands.calls[-1]
    (root / "results/evaluation/base/.answers-0.jsonl").touch()  # what a kill leaves
    steps("eval-base", exit_code=1)
    assert commands.calls[-1][-1] == "--resume"
    commands.fails = None
    steps("eval-base", "--max_samples", 2)
    assert "--resume" not in commands.calls[-1]  # they are of other examples


@pytest.mark.parametrize(
    ("step", "arguments", "folder", "setting"),
    [
        ("download-dataset", ["--seed", 5], "dataset/raw", "seed 0, not 5"),
        ("eval-base", ["--max_samples", 2], "results/evaluation", "max_eval_samples None, not 2"),
        ("train", ["--peft_config_path", "peft.yaml"], "results/model", "lora_rank 16, not 2"),
        ("train", ["--onto", "original"], "results/deployment_model", "onto auto, not original"),
    ],
)
def test_a_step_done_with_other_settings_is_refused(
    root: Path,
    commands: Commands,
    step: str,
    arguments: Sequence[object],
    folder: str,
    setting: str,
) -> None:
    write_yaml(root, {"r": 2}, "peft.yaml")
    steps("run")
    output = steps(step, *arguments, exit_code=2).output
    (message,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert message.startswith(f"Error: {folder}: ") and setting in message
    assert f"remove {folder}" in message and message.endswith(".")
    assert len(commands.calls) == 4


def test_a_step_done_with_data_of_other_content_is_refused(root: Path, commands: Commands) -> None:
    steps("run")
    shutil.rmtree(root / "source")
    save_parts(root / "source", train=[0, 1, 2, 9], val=[4], test=[5])  # 9 was 3
    shutil.rmtree(root / "dataset")
    steps("download-dataset")
    for step in ("eval-base", "train", "eval-finetuned"):
        assert "was done with dataset_sha256 " in steps(step, exit_code=2).output
    assert len(commands.calls) == 4


def test_a_step_done_with_a_model_of_other_weights_is_refused(
    root: Path, pico1: Path, commands: Commands
) -> None:
    model = shutil.copytree(pico1, root / "base")
    steps("run", "--model_id", model)
    assert "eval-base: done before" in steps("run", "--model_id", model).output
    weights = load_file(model / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, model / "model.safetensors")
    for step in ("eval-base", "train", "eval-finetuned"):
        assert "done with base_weights w2:" in steps(step, "--model_id", model, exit_code=2).output
    assert len(commands.calls) == 4


def test_a_record_of_an_earlier_version_knows_no_weights(root: Path, commands: Commands) -> None:
    steps("run")
    file = root / "results/model/pipeline.json"
    record = json.loads(file.read_text())
    assert record["made_with"].pop("base_weights") == resolve(os.environ["MODEL_ID"]).fingerprint
    file.write_text(json.dumps(record))
    assert "train: done before" in steps("train").output


def test_the_copy_of_a_folder_that_has_changed_is_refused(root: Path, commands: Commands) -> None:
    steps("run")
    told = "dataset/raw: download-dataset was done with other files than"
    table = next((root / "source/train").glob("*.arrow"))
    os.utime(table, ns=(0, 0))  # written again, in as many bytes
    assert told in (output := steps("run", exit_code=2).output)
    assert "remove dataset/raw to do it anew" in output and len(commands.calls) == 4
    shutil.rmtree(root / "dataset")
    assert "eval-base: done before" in steps("run").output  # it holds the same
    (root / "source/notes.txt").touch()
    assert told in steps("download-dataset", exit_code=2).output
    shutil.rmtree(root / "source")  # a copy needs it no longer
    assert "download-dataset: done before" in steps("download-dataset").output


def test_an_adapter_that_was_lost_is_named(root: Path, commands: Commands) -> None:
    steps("run")
    (root / "results/model/adapter_model.safetensors").unlink()
    output = steps("train", exit_code=2).output
    assert "has lost adapter_model.safetensors; remove it, and run" in output


def test_zero_is_a_setting_and_not_the_default(root: Path, commands: Commands) -> None:
    write_yaml(root, "warmup_ratio: 0.0", "train.yaml")
    steps("run", "--train_config_path", "train.yaml")
    assert "warmup_ratio 0.0, not None" in steps("train", exit_code=2).output
    assert len(commands.calls) == 4


def test_a_record_of_an_earlier_version_lacks_zeros(root: Path, commands: Commands) -> None:
    steps("run")
    file = root / "results/evaluation/base_vlm_model_evaluation.json"
    record = json.loads(file.read_text())
    assert record["made_with"].pop("seed") == 0
    file.write_text(json.dumps(record))
    assert "eval-base: done before" in steps("eval-base").output


def test_the_table_shows_figures_up_to_1_to_four_decimals() -> None:
    def metrics(value: float, **more: Any) -> dict[str, Any]:
        metrics = {"vqa_accuracy": 100 * value, "rouge_l": value}
        return {"metric": "rouge_l", "value": value, "metrics": metrics, **more}

    tuned = {"num_examples": 4, "split": "test", "deployment_gap": -0.0007}
    shown = comparison(
        metrics(0.4211, provenance={"base_model": str(TINY.resolve())}),
        metrics(0.4249, adapter={"value": 0.4256}, **tuned),
        ("vqa_accuracy", "rouge_l"),
    )
    assert shown.startswith("# tiny before and after")  # and not where it lies on this machine
    assert "| vqa_accuracy | 42.11 | 42.49 | +0.38 |" in shown
    assert "| rouge_l | 0.4211 | 0.4249 | +0.0038 |" in shown
    assert "rouge_l 0.4256;" in shown and "0.4249 (gap -0.0007)" in shown


def test_scores_do_not_outlive_the_adapter_that_they_are_of(root: Path, commands: Commands) -> None:
    steps("run")
    (root / "results/model/adapter_model.safetensors").write_bytes(b"others")
    output = steps("eval-finetuned", exit_code=2).output
    assert "adapter_sha256" in output and "results/deployment_model" in output


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("eval-base", "download-dataset"),
        ("train", "download-dataset"),
        ("eval-finetuned", "download-dataset"),
    ],
)
@pytest.mark.usefixtures("commands")
def test_a_step_names_the_one_that_must_come_before(root: Path, step: str, wanted: str) -> None:
    assert f"palitune pipeline {wanted}" in steps(step, exit_code=2).output


@pytest.mark.parametrize(
    ("arguments", "files", "message"),
    [
        ([], {"train": "learning_rate: -1"}, "learning_rate must be above 0"),
        ([], {"train": "optim: sdg"}, "optim must be one of"),
        ([], {"peft": "target_modules: [nothing]"}, "nothing"),
        ([], {"collator": "message_format: {user: hello}"}, "{question}"),
        ([], {"collator": "message_format: {system: hello}"}, "leave --system_message out"),
        ([], {"model": "fallback: {model_class: BertModel}"}, "model_class BertModel"),
        ([], {"model": "fallback: {processor_class: X}"}, "processor_class X"),
        (["--model-id", "./none"], {}, "No model at './none'"),
    ],
)
def test_everything_is_checked_before_the_first_step(
    root: Path,
    commands: Commands,
    arguments: Sequence[str],
    files: Mapping[str, str],
    message: str,
) -> None:
    options = {"train": "--train_config_path", "peft": "--peft_config_path"}
    given = [
        word
        for name, content in files.items()
        for word in (
            options.get(name, f"--vlm_{name}_config"),
            write_yaml(root, content, f"{name}.yaml"),
        )
    ]
    output = steps("run", *arguments, *given, exit_code=2).output
    assert message in output
    assert not (root / "dataset").exists() and not commands.calls


def test_a_model_and_a_data_set_must_be_named(commands: Commands) -> None:
    assert "--dataset, or set DATASET" in steps("run", exit_code=2).output
    assert "--model_id, or set MODEL_ID" in steps("train", exit_code=2).output


def test_a_command_that_fails_ends_the_step(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=r"^eval-base stopped with exit code 2, .*\.$"):
        pipeline._run("eval-base", print, ["eval", "--task", "none"])
    assert "Unknown task 'none'" in capfd.readouterr().err


def test_every_step_is_a_command() -> None:
    group = palitune.commands["pipeline"]
    assert isinstance(group, click.Group)
    assert set(group.commands) == {
        *("download-dataset", "eval-base", "train", "eval-finetuned", "run"),
    }
