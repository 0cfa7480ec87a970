"""Several tasks on one command line: the joint figure, the data roots, the help."""

from pathlib import Path
from typing import Any

import pytest

from finetuning.training import joint
from models import run_record
from models.run_record import trained_on
from palitune.sources import make_sources
from tasks.base import Scores, Task
from tasks.registry import get_task
from tasks.report import Report
from tests.finetuning.joint_inputs import COCO, DOCVQA, VQAV2, invoke

# One figure


def report(task: Task, value: float | None) -> Report:
    metrics = {task.metric: value, "another": 1.0}
    scores = Scores(values=[], metrics=metrics, reasons={})
    return Report(
        task=task, split="val", examples=[], prompts=[], raw_predictions=[], predictions=[],
        scores=scores,
    )  # fmt: skip


def test_the_joint_figure_is_the_mean_of_the_shares_of_each_best_value() -> None:
    # 50 of 100, 2 of 10, 0.8 of 1: (0.5 + 0.2 + 0.8) / 3 = 0.5
    found = joint.joint_metrics([report(VQAV2, 50.0), report(COCO, 2.0), report(DOCVQA, 0.8)])
    assert found == {
        "joint": pytest.approx(0.5),
        "vqav2_vqa_accuracy": 50.0,
        "coco_captioning_CIDEr": 2.0,
        "docvqa_anls": 0.8,
    }
    assert next(iter(found)) == "joint"
    assert joint.joint_metrics([report(VQAV2, 50.0)]) == {"vqa_accuracy": 50.0, "another": 1.0}


def test_where_a_headline_is_not_available_there_is_no_joint_figure() -> None:
    found = joint.joint_metrics([report(VQAV2, 50.0), report(COCO, None)])
    assert found == {"vqav2_vqa_accuracy": 50.0}


# What is asked for


def values(data_root: str | None) -> dict[str, Any]:
    hub = ("hub_repo", "hub_config", "hub_split", "hub_revision")
    return {"data_root": data_root, "hub_columns": (), **dict.fromkeys(hub)}


def test_data_roots_are_one_for_all_or_one_for_each_task(tmp_path: Path) -> None:
    comma = tmp_path / "a, b"
    comma.mkdir()

    def roots(text: str | None) -> list[Path | None]:
        return [source.data_root for source in make_sources([VQAV2, COCO], values(text))]

    assert roots(None) == [None, None]
    assert roots(str(tmp_path)) == [tmp_path, tmp_path]
    assert roots(f"vqav2={tmp_path},coco={comma}") == [tmp_path, comma]
    assert roots(f"coco-captioning={comma},vqav2={tmp_path}") == [tmp_path, comma]
    assert roots(f"coco={tmp_path}") == [None, tmp_path]


def test_the_sample_is_each_tasks_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("vqav2", "coco_captioning"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tasks.sample.sample_root", lambda name: tmp_path / name)
    tasks = [VQAV2, COCO, get_task("digits")]
    found = [source.data_root for source in make_sources(tasks, values("sample"))]
    assert found == [tmp_path / "vqav2", tmp_path / "coco_captioning", None]
    mixed = make_sources(tasks[:2], values(f"vqav2=sample,coco={tmp_path}"))
    assert [source.data_root for source in mixed] == [tmp_path / "vqav2", tmp_path]


def test_a_task_alone_may_have_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "coco=x"
    folder.mkdir()
    (source,) = make_sources([VQAV2], values(str(folder)))
    assert source.data_root == folder


# The command


def test_help_after_the_tasks_lists_every_option_with_their_names() -> None:
    text = invoke("--task", "vqav2,coco", "--help").output
    assert text.startswith("Usage: palitune train --task vqav2,coco [OPTIONS]")
    single = invoke("vqav2", "--help").output
    headings = [line for line in single.splitlines() if line.endswith(":") and line[0] != " "]
    assert len(headings) == 9
    assert [line for line in text.splitlines() if line in headings] == headings
    flat = " ".join(text.split())
    assert "vqav2=FOLDER,coco_captioning=FOLDER" in flat
    assert "runs/joint- vqav2-coco_captioning]" in flat  # wrapped there


def test_help_of_the_group_tells_of_both_ways() -> None:
    text = invoke("--help").output
    assert "--task A,B" in text and "docvqa" in text


def test_a_command_of_one_task_is_no_joint_one() -> None:
    assert "No such option '--task'" in invoke("vqav2", "--task", "gqa", exit_code=2).output


def test_runs_from_before_or_of_others_are_read_as_ever(tmp_path: Path) -> None:
    one = {"task": "vqav2", "train_data": {"split": "train"}}
    assert (trained_on(one), trained_on({})) == (["vqav2"], [])
    assert run_record.by_task(one, "train_data") == {"vqav2": {"split": "train"}}
    place = run_record.evaluation_folder(tmp_path, one, "vqav2", "val")
    assert place == tmp_path / "evaluation/val"
