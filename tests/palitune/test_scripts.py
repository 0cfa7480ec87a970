"""Each script from end to end on official files: train, resume, evaluate, and what is left then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning.training import checkpoints
from tasks.registry import get_task
from tests.helpers import REPOSITORY, hashes, read_json, read_lines
from tests.official_files import (
    COCO_LAYOUTS,
    DOCVQA_LAYOUTS,
    GQA_LAYOUTS,
    VQAV2_LAYOUTS,
    write_coco,
    write_docvqa,
    write_gqa,
    write_json,
    write_vqav2,
)
from tests.palitune.commands import (
    BRIEF,
    DEFAULT_SPLIT,
    HUB_COPY,
    check_metrics,
    check_predictions,
    check_provenance,
    evaluate,
    run,
    train,
    write_data,
)

LAYOUTS = {
    "vqav2": VQAV2_LAYOUTS,
    "docvqa": DOCVQA_LAYOUTS,
    "gqa": GQA_LAYOUTS,
    "coco_captioning": COCO_LAYOUTS,
}
FAST = {("vqav2", "nested"), ("docvqa", "a"), ("gqa", "questions1.2"), ("vqav2", HUB_COPY)}
FAST |= {("coco_captioning", "annotations_2014"), ("gqa", HUB_COPY)}
SOURCES = [
    pytest.param(task, layout, marks=() if (task, layout) in FAST else pytest.mark.slow)
    for task in LAYOUTS
    for layout in (*LAYOUTS[task], HUB_COPY)
]


def check_run_folder(folder: Path, task: str, pico: Path, max_steps: int, split: str) -> None:
    """What the README promises of an output folder."""
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoints",
        "evaluation", "processor_config.json", "run.json", "tokenizer.json", "trainer_state.json",
    }  # fmt: skip
    config = read_json(folder / "adapter_config.json")
    assert (config["r"], config["base_model_name_or_path"]) == (4, str(pico))
    assert read_json(folder / "trainer_state.json")["global_step"] == max_steps
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == [f"checkpoint-{step}" for step in (max_steps - 1, max_steps)]
    recorded = read_json(folder / "run.json")
    assert recorded["task"] == task
    assert recorded["base_model"] == str(pico)
    assert recorded["base_fingerprint"].startswith("w2:")
    assert len(recorded["train_data"]["fingerprint"]) == 16
    assert recorded["train_data"]["num_examples"] == 4
    assert recorded["seed"] == recorded["settings"]["seed"] == 0
    assert recorded["settings"]["max_steps"] == max_steps
    assert recorded["settings"]["quantization"] == "nf4"
    assert {"python", "torch", "transformers", "peft", "bitsandbytes"} <= set(recorded["versions"])
    metrics = read_json(folder / "evaluation" / split / "metrics.json")
    check_metrics(metrics, task, num_examples=3, split=split)
    check_provenance(metrics["provenance"], task, folder, pico)
    card = (folder / "README.md").read_text()
    for name, value in metrics["metrics"].items():
        shown = "not available" if value is None else f"{value:.4f}"
        assert f"| {task} | {split} | 3 | {name} | {shown} |" in card


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize(("task", "layout"), SOURCES)
def test_a_script_trains_resumes_and_its_adapter_is_evaluated(
    task: str, layout: str, pico1: Path, tmp_path: Path
) -> None:
    split = DEFAULT_SPLIT[task]
    if (task, layout) == ("coco_captioning", HUB_COPY):
        split = "karpathy_val"  # what the copy holds
    data, folder = write_data(tmp_path / "data", task, layout), tmp_path / "run"
    train(task, pico1, data, folder, "--max_steps", 2)
    first = (folder / "adapter_model.safetensors").read_bytes()
    state_path = folder / "checkpoints/checkpoint-2/trainer_state.json"
    state = read_json(state_path)
    state["log_history"][0]["seen"] = 1.0  # what only one who goes on from there can know
    write_json(state_path, state)
    (state_path.parent / "manifest.json").unlink()
    checkpoints._write_manifest(state_path.parent)
    result = train(task, pico1, data, folder, "--max_steps", 4, "--resume")
    assert f"{task}, split '{split}', 3 examples" in result.output
    assert (folder / "adapter_model.safetensors").read_bytes() != first
    check_run_folder(folder, task, pico1, max_steps=4, split=split)
    assert read_json(folder / "trainer_state.json")["log_history"][0]["seen"] == 1.0

    evaluated = folder / "evaluation" / split
    before = hashes(folder, leave_out="evaluation")
    (evaluated / "metrics.json").unlink()
    result = evaluate(task, folder, data)
    assert str(evaluated) in result.output
    metrics = read_json(evaluated / "metrics.json")
    check_metrics(metrics, task, num_examples=3, split=split)
    check_provenance(metrics["provenance"], task, folder, pico1, max_new_tokens=4)
    check_predictions(read_lines(evaluated / "predictions.jsonl"), task, num_examples=3)
    assert hashes(folder, leave_out="evaluation") == before


@pytest.mark.slow
def test_the_commands_run_as_files_from_another_folder(pico1: Path, tmp_path: Path) -> None:
    write_vqav2(tmp_path / "data")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def python(*arguments: object) -> str:
        result = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    settings = ("--data_root", "data", "--max_steps", 1)
    script_path = REPOSITORY / "finetuning" / "vqav2.py"
    output = python(script_path, "--model_path", pico1, *settings)
    assert "Adapter, scores and model card are in runs/vqav2" in output
    (tmp_path / "runs/vqav2/evaluation/val/metrics.json").unlink()
    output = python(
        REPOSITORY / "eval.py", "--task", "vqav2", "--model_path", "runs/vqav2",
        "--data_root", "data",
    )  # fmt: skip
    assert "vqa_accuracy" in output
    check_metrics(read_json(tmp_path / "runs/vqav2/evaluation/val/metrics.json"), "vqav2", 3)


@pytest.fixture(scope="module")
def trained(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with official VQAv2 files in `data` and the run of two steps on them in `run`."""
    folder = tmp_path_factory.mktemp("trained")
    write_vqav2(folder / "data")
    train("vqav2", pico1, folder / "data", folder / "run", "--max_steps", 2, "--seed", 5)
    return folder


def test_the_config_of_a_run_repeats_it_with_the_same_adapter_bytes(
    trained: Path, tmp_path: Path
) -> None:
    run("vqav2", "--config", trained / "run/run.json", "--output_dir", tmp_path / "again")
    again = tmp_path / "again"
    name = "adapter_model.safetensors"
    assert (again / name).read_bytes() == (trained / "run" / name).read_bytes()
    assert read_json(again / "run.json") == read_json(trained / "run/run.json")


def test_an_option_beside_the_config_wins(trained: Path, tmp_path: Path) -> None:
    output = ("--output_dir", tmp_path / "other")
    run("vqav2", "--config", trained / "run/run.json", "--seed", 6, *output)
    settings = read_json(tmp_path / "other/run.json")["settings"]
    assert settings == {**read_json(trained / "run/run.json")["settings"], "seed": 6}
    name = "adapter_model.safetensors"
    assert (tmp_path / "other" / name).read_bytes() != (trained / "run" / name).read_bytes()


def test_a_run_is_replaced_only_when_told_so(trained: Path, pico1: Path, tmp_path: Path) -> None:
    data = trained / "data"
    train("vqav2", pico1, data, tmp_path / "run", "--max_steps", 3)
    train("vqav2", pico1, data, tmp_path / "run", "--max_steps", 1, "--overwrite")
    kept = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert kept == ["checkpoint-1"]
    assert read_json(tmp_path / "run/trainer_state.json")["global_step"] == 1


def test_answers_are_kept_where_scoring_them_fails(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(get_task("vqav2"), "score", fail)
    output = ("--output_dir", tmp_path)
    run(
        *("eval", "--task", "vqav2", "--model_path", trained / "run"),
        *("--data_root", trained / "data", *BRIEF, *output),
        exit_code=1,
    )
    rows = read_lines(tmp_path / "predictions.jsonl")
    assert [row["score"] for row in rows] == [None] * 3
    assert not (tmp_path / "metrics.json").exists()


def test_a_hidden_split_is_predicted_and_not_scored(trained: Path, tmp_path: Path) -> None:
    result = evaluate(
        "vqav2", trained / "run", trained / "data", "--split", "test", "--output_dir", tmp_path
    )
    assert "withheld" in result.output
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["value"] is None and metrics["metrics"] == {"vqa_accuracy": None}
    assert (metrics["split"], metrics["num_examples"]) == ("test", 2)
    rows = read_lines(tmp_path / "predictions.jsonl")
    assert [(row["id"], row["references"], row["score"]) for row in rows] == [
        (900000, [], None),
        (901000, [], None),
    ]


def test_where_the_default_split_is_absent_the_next_one_is_taken_and_said(
    pico1: Path, tmp_path: Path
) -> None:
    data = write_gqa(tmp_path / "data", "root", num_test=0)
    (data / "testdev_balanced_questions.json").unlink()
    result = evaluate("gqa", pico1, data, "--output_dir", tmp_path / "out")
    assert "The default split 'testdev' is not there, so 'val' is taken." in result.stderr
    assert read_json(tmp_path / "out/metrics.json")["split"] == "val"


def test_a_capped_evaluation_takes_a_seeded_subset(trained: Path, tmp_path: Path) -> None:
    ids = []
    for name, seed in (("a", 0), ("b", 0), ("c", 2)):
        options = ("--max_eval_samples", 2, "--seed", seed, "--output_dir", tmp_path / name)
        evaluate("vqav2", trained / "run", trained / "data", *options)
        assert read_json(tmp_path / name / "metrics.json")["num_examples"] == 2
        ids.append([row["id"] for row in read_lines(tmp_path / name / "predictions.jsonl")])
    assert ids[0] == ids[1] != ids[2]


def test_a_capped_training_takes_a_seeded_subset_and_scores_on_one(
    trained: Path, pico1: Path, tmp_path: Path
) -> None:
    capped = ("--max_train_samples", 2, "--max_eval_samples", 1, "--max_steps", 1)
    train("vqav2", pico1, trained / "data", tmp_path, *capped)
    recorded = read_json(tmp_path / "run.json")
    assert recorded["train_data"]["num_examples"] == 2
    assert recorded["eval_data"]["num_examples"] == 1
    assert read_json(tmp_path / "evaluation/val/metrics.json")["num_examples"] == 1


def test_training_without_an_evaluation_split_ends_unscored_and_says_so(
    pico1: Path, tmp_path: Path
) -> None:
    data = write_docvqa(tmp_path / "data", num_val=0, num_test=0)
    result = train("docvqa", pico1, data, tmp_path / "run", "--max_steps", 1)
    assert "will not be scored" in result.stderr
    assert (tmp_path / "run/adapter_model.safetensors").is_file()
    assert not (tmp_path / "run/evaluation").exists()


def test_an_adapter_of_one_task_is_scored_on_another_beside_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = hashes(trained / "run")
    evaluate("docvqa", trained / "run", write_docvqa(tmp_path / "data"))
    assert hashes(trained / "run") == before
    rows = read_lines(tmp_path / "runs/evaluation/run/docvqa/val/predictions.jsonl")
    assert rows[0]["prompt"] == "What color is the page?"


def test_the_prompt_of_a_run_is_that_of_its_evaluation(
    trained: Path, pico1: Path, tmp_path: Path
) -> None:
    template = ("--prompt_template", "question: {question}")
    train("vqav2", pico1, trained / "data", tmp_path / "run", "--max_steps", 1, *template)
    evaluate("vqav2", tmp_path / "run", trained / "data")
    (row, *_) = read_lines(tmp_path / "run/evaluation/val/predictions.jsonl")
    assert row["prompt"] == "question: what color is the picture?"


@pytest.mark.slow
def test_captions_are_scored_by_the_official_java_programs(pico1: Path, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    evaluate("coco_captioning", pico1, data, "--output_dir", tmp_path / "out")
    metrics = read_json(tmp_path / "out/metrics.json")
    check_metrics(metrics, "coco_captioning", num_examples=3)
    assert isinstance(metrics["metrics"]["METEOR"], float)
    assert "notes" not in metrics


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_spin_shortly_unless_the_user_says_otherwise(
    given: dict[str, str], expected: str
) -> None:
    """Set before PyTorch brings OpenMP, which reads it once."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: text for name, text in os.environ.items() if name not in names} | given
    code = "import os, sys, eval; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.split() == [expected, "False"]
