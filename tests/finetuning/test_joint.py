"""One adapter trained on several tasks: what it sees, how it is scored, what is left of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from finetuning.training import joint
from finetuning.training import trainer as trainer_module
from finetuning.training.examples import JointExamples
from models.encoding import Encoded
from models.run_record import trained_on
from palitune.main import palitune
from tasks.metrics import java
from tests.finetuning.joint_inputs import BRIEF, COCO, VQAV2, invoke
from tests.helpers import hashes, read_json, read_lines
from tests.official_files import write_coco, write_docvqa, write_json, write_vqav2
from tests.palitune.commands import check_metrics, evaluate

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[None]:
    """Short captions, scored without Java: approximate, and much faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java.shutil, "which", lambda _: None)
        patch.setattr(type(COCO), "max_new_tokens", 4)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official files of two tasks with unlike sizes, each in its folder, and of a third."""
    folder = tmp_path_factory.mktemp("data")
    write_vqav2(folder / "vqa", num_train=4)
    write_coco(folder / "coco", num_train=3)
    write_docvqa(folder / "docvqa")
    return folder


def both(data: Path) -> str:
    return f"vqav2={data / 'vqa'},coco_captioning={data / 'coco'}"


@pytest.fixture(scope="module")
def trained(pico1: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two steps on both, scored after each."""
    folder = tmp_path_factory.mktemp("joint") / "run"
    invoke(
        *("--model_path", pico1, "--task", "vqav2,coco", "--data-root", both(data)),
        *("--output_dir", folder, "--max_steps", 2, "--eval_steps", 1, "--max_train_samples", 3),
        *("--max_eval_samples", 2, "--max_length", 60, *BRIEF),
    )
    return folder


# What a run leaves


def test_each_task_is_scored_by_its_own_metric_in_a_folder_of_its_own(trained: Path) -> None:
    evaluations = trained / "evaluation"
    assert sorted(path.name for path in evaluations.iterdir()) == ["coco_captioning", "vqav2"]
    card = (trained / "README.md").read_text()
    for task, prompt in ((VQAV2, "answer en what color is the picture?"), (COCO, "caption en")):
        metrics = read_json(evaluations / task.name / "val/metrics.json")
        check_metrics(metrics, task.name, num_examples=2)
        assert metrics["provenance"]["trained_on"] == ["vqav2", "coco_captioning"]
        assert metrics["provenance"]["prompt_template"] == task.prompt("paligemma")
        rows = read_lines(evaluations / task.name / "val/predictions.jsonl")
        assert {row["prompt"] for row in rows} == {prompt}
        assert f"| {task.name} | val | 2 | {task.metric} | {metrics['value']:.4f} |" in card


def test_images_that_the_other_task_was_trained_on_are_noted(trained: Path) -> None:
    for task, other in (("vqav2", "coco_captioning"), ("coco_captioning", "vqav2")):
        notes = read_json(trained / "evaluation" / task / "val/metrics.json")["notes"]
        assert [
            note for note in notes if f"Images in common: the model was trained on {other}" in note
        ]


def test_the_run_file_names_the_tasks_and_the_data_of_each(trained: Path) -> None:
    run = read_json(trained / "run.json")
    assert trained_on(run) == ["vqav2", "coco_captioning"]
    assert {name: entry["num_examples"] for name, entry in run["train_data"].items()} == {
        "vqav2": 3,
        "coco_captioning": 3,
    }
    assert {entry["num_examples"] for entry in run["eval_data"].values()} == {2}
    hashes_of_data = {entry["fingerprint"] for entry in run["train_data"].values()}
    assert len(hashes_of_data) == 2
    card = (trained / "README.md").read_text()
    assert "fine-tuned on vqav2 and coco_captioning\n" in card
    assert (
        "trained on 3 examples of vqav2 split train and 3 examples of coco_captioning split "
        "train." in card
    )


def test_the_best_checkpoint_is_kept_by_the_joint_figure(trained: Path) -> None:
    state = read_json(trained / "trainer_state.json")
    scored = [log for log in state["log_history"] if "eval_joint" in log]
    assert [log["step"] for log in scored] == [1, 2]
    for log in scored:
        accuracy, cider = log["eval_vqav2_vqa_accuracy"], log["eval_coco_captioning_CIDEr"]
        assert log["eval_joint"] == pytest.approx((accuracy / 100 + cider / 10) / 2)
    assert state["best_metric"] == max(log["eval_joint"] for log in scored)
    assert {"final_joint", "final_vqav2_vqa_accuracy"} <= set(state["log_history"][-1])


def test_a_resumed_run_ends_with_the_same_bytes(trained: Path, data: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(trained, torn)
    (torn / ADAPTER).unlink()
    shutil.rmtree(torn / "checkpoints/checkpoint-2")
    again = ("--task", "vqav2,coco_captioning", "--config", trained / "run.json")
    invoke(*again, "--output_dir", torn, "--resume")
    assert (torn / ADAPTER).read_bytes() == (trained / ADAPTER).read_bytes()
    logs = read_json(torn / "trainer_state.json")["log_history"]
    assert [log["step"] for log in logs if "loss" in log] == [1, 2]
    message = invoke(
        *(*again, "--output_dir", torn, "--resume", "--data_root"),
        f"vqav2={write_vqav2(tmp_path / 'other', num_train=2)},coco={data / 'coco'}",
        exit_code=2,
    ).output
    assert "had train_data" in message and "start anew in another folder" in message


def test_the_config_of_a_run_repeats_it_with_the_same_adapter_bytes(
    trained: Path, tmp_path: Path
) -> None:
    again = ("--task", "vqav2,coco", "--config", trained / "run.json", "--output_dir", tmp_path)
    (tmp_path / "left over").touch()
    assert "is not empty" in invoke(*again, exit_code=2).output
    invoke(*again, "--overwrite")
    assert (tmp_path / ADAPTER).read_bytes() == (trained / ADAPTER).read_bytes()
    assert read_json(tmp_path / "run.json") == read_json(trained / "run.json")
    message = invoke("--task", "coco,docvqa", "--config", trained / "run.json", exit_code=2).output
    assert "is of task vqav2,coco_captioning, not coco_captioning,docvqa." in message


def test_the_adapter_is_evaluated_with_its_runs_settings_on_its_tasks_alone(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "evaluation")
    evaluate("coco_captioning", folder, data / "coco")
    found = read_json(folder / "evaluation/coco_captioning/val/metrics.json")["provenance"]
    assert (found["max_length"], found["prompt_template"]) == (60, "caption en")
    before = hashes(folder)
    evaluate("docvqa", folder, data / "docvqa")
    assert hashes(folder) == before
    metrics = read_json(tmp_path / "runs/evaluation/run/docvqa/val/metrics.json")
    assert metrics["provenance"]["max_length"] == 256


def test_a_task_without_an_evaluation_split_is_named_and_the_other_scored(
    pico1: Path, data: Path, tmp_path: Path
) -> None:
    no_val = write_docvqa(tmp_path / "no_val", num_val=0)
    result = invoke(
        *("--task", "docvqa,vqav2", "--data_root", f"docvqa={no_val},vqav2={data / 'vqa'}"),
        *("--model_path", pico1, "--output_dir", tmp_path / "run", "--max_steps", 1, *BRIEF),
    )
    assert "No evaluation split of docvqa is there: it will not be scored." in result.stderr
    assert [path.name for path in (tmp_path / "run/evaluation").iterdir()] == ["vqav2"]
    assert read_json(tmp_path / "run/run.json")["eval_data"]["docvqa"] is None


# What is trained on


class Seen(Exception):
    """Carries what a run would train on."""


def training_set(
    monkeypatch: pytest.MonkeyPatch, pico: Path, tasks: str, roots: str, folder: Path
) -> JointExamples:
    """What `palitune train --task` hands to the trainer."""

    def stop(loaded: Any, examples: Any, *_: Any, **__: Any) -> None:
        raise Seen(examples)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "make_trainer", stop)
        arguments = ["train", "--task", tasks, "--data_root", roots, "--model_path", str(pico)]
        result = CliRunner().invoke(palitune, [*arguments, "--output_dir", str(folder)])
    assert isinstance(result.exception, Seen), result.output
    return result.exception.args[0]  # type: ignore[no-any-return]


def texts(examples: JointExamples, encoded: Encoded) -> tuple[str, str]:
    """Prompt and answer as the tokens have them."""
    decode = examples.parts[0].prompter.family.tokenizer.decode
    num_prefix = encoded.is_target.index(True)
    prompt = decode(encoded.input_ids[encoded.num_image_tokens : num_prefix])
    answer = decode(encoded.input_ids[num_prefix:])
    return prompt.removeprefix("<bos>").strip(), answer.removesuffix("<eos>").strip()


def test_each_example_of_a_mixed_batch_has_its_own_tasks_prompt_and_answer(
    monkeypatch: pytest.MonkeyPatch, pico1: Path, data: Path, tmp_path: Path
) -> None:
    roots = f"{both(data)},docvqa={data / 'docvqa'}"
    tasks = "vqav2,coco,docvqa"
    examples = training_set(monkeypatch, pico1, tasks, roots, tmp_path / "run")
    assert len(examples) == 4 + 3 + 4
    found = [texts(examples, examples[0, index]) for index in range(11)]
    assert [prompt for prompt, _ in found] == [
        *["answer en what color is the picture?"] * 4,
        *["caption en"] * 3,
        *["What color is the page?"] * 4,
    ]
    for index, (_, answer) in enumerate(found):
        part, start = next(
            (part, end - len(part))
            for part, end in zip(examples.parts, (4, 7, 11), strict=True)
            if index < end
        )
        assert answer in [text.strip() for text in part.dataset[index - start].references]
    keys = [(0, 9), (1, 2), (0, 4), (2, 10), (0, 0), (0, 5)]  # the tasks by turns
    for key, encoded in zip(keys, examples.__getitems__(keys), strict=True):
        assert texts(examples, encoded) == texts(examples, examples[key])
        assert encoded.example_id == examples[key].example_id
    assert [part.prompter.max_length for part in examples.parts] == [64, 64, 256]
    batch = examples.parts[0].prompter.family.collate([examples[0, 0], examples[0, 4]])
    first, second = batch["input_ids"].tolist()
    assert examples[0, 0].input_ids == first[: len(examples[0, 0].input_ids)]
    assert [token for token in second if token][:20] == list(examples[0, 4].input_ids)[:20]


def number_the_answers(folder: Path, captions: dict[str, Any], pages: dict[str, Any]) -> None:
    """Give each example the eight answers "0" to "7"."""
    ids = [image["id"] for image in captions["images"]]
    captions["annotations"] = [
        {"image_id": i, "id": 10 * i + n, "caption": str(n)} for i in ids for n in range(8)
    ]
    write_json(folder / "coco/annotations/captions_train2014.json", captions)
    for record in pages["data"]:
        record["answers"] = [str(n) for n in range(8)]
    write_json(folder / "docvqa/spdocvqa_qas/train_v1.0_withQT.json", pages)


def test_ids_that_two_tasks_have_in_common_draw_independent_answers(
    monkeypatch: pytest.MonkeyPatch, pico1: Path, tmp_path: Path
) -> None:
    write_coco(tmp_path / "coco", num_train=6, num_val=0)
    write_docvqa(tmp_path / "docvqa", num_train=6, num_val=0)
    captions = read_json(tmp_path / "coco/annotations/captions_train2014.json")
    pages = read_json(tmp_path / "docvqa/spdocvqa_qas/train_v1.0_withQT.json")
    number_the_answers(tmp_path, captions, pages)
    roots = f"coco={tmp_path / 'coco'},docvqa={tmp_path / 'docvqa'}"

    def drawn(tasks: str) -> dict[tuple[str, Any], list[str]]:
        """(task, id) -> the answers of eight epochs, which are all of them."""
        examples = training_set(monkeypatch, pico1, tasks, roots, tmp_path / "run")
        keys = [(p.dataset.task.name, e.example_id) for p in examples.parts for e in p.dataset]
        return {
            key: [texts(examples, examples[epoch, index])[1] for epoch in range(8)]
            for index, key in enumerate(keys)
        }

    found = drawn("coco,docvqa")
    assert all(sorted(answers) == list("01234567") for answers in found.values())
    ids = [example_id for task, example_id in found if task == "docvqa"]
    assert len(ids) == 6
    # two independent orders of eight are alike once in 8! = 40320
    assert not [i for i in ids if found["docvqa", i] == found["coco_captioning", i]]
    assert drawn("docvqa,coco") == found  # a function of the task, not of its place


def test_a_task_alone_draws_by_the_seed_of_the_run() -> None:
    assert joint.answer_seed(7, VQAV2, num_tasks=1) == 7
    several = {joint.answer_seed(seed, task, 2) for seed in (7, 8) for task in (VQAV2, COCO)}
    assert len(several) == 4


MISTAKES = {
    "one task": ("--task vqav2", ("two tasks or more", "'vqav2'", "`palitune train vqav2`")),
    "no task": ("--task ,", ("two tasks or more",)),
    "unknown task": ("--task vqav2,vqa3", ("Unknown task 'vqa3'", "Did you mean vqav2?")),
    "a task twice": ("--task coco,vqav2,coco_captioning", ("coco_captioning twice",)),
    "Hub options": (
        "--task vqav2,coco --hub_repo a/b --hub-columns answers=x",
        ("--hub_repo and --hub_columns cannot be given with several tasks",),
    ),
    "root of another task": (
        "--task vqav2,coco --data_root gqa={data}",
        ("TASK=FOLDER once for each of vqav2, coco_captioning; got 'gqa={data}'",),
    ),
    "two roots of a task": (
        "--task vqav2,coco --data_root coco={data},coco_captioning={data}",
        ("got 'coco_captioning={data}'",),
    ),
    "root absent": ("--task vqav2,coco --data_root coco=/no/such", ("/no/such does not exist",)),
    "data of one task alone": (
        "--task vqav2,coco --data_root {data}/vqa --model_path tiny",
        ("No files of coco_captioning split 'train' under {data}/vqa",),
    ),
    "split that one has not": (
        "--task vqav2,coco --data_root {both} --model_path tiny --train_split karpathy_train",
        ("vqav2 has no split 'karpathy_train'",),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_file(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, parts = MISTAKES[name]
    result = invoke(*options.format(data=data, both=both(data)).split(), exit_code=2)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and errors[0].endswith("."), result.output
    for part in parts:
        assert part.format(data=data) in errors[0]
    assert not list(tmp_path.iterdir())
