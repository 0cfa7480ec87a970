"""Checkpoints are whole, or passed over in a sentence; what counts is kept."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning.training import checkpoints
from finetuning.training.checkpoints import CHECKPOINTS, newest, staged
from finetuning.training.run import finetune
from tests.finetuning.child import start
from tests.finetuning.training_jobs import adapter_hash, job

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "manifest.json",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
)


@pytest.fixture(scope="module")
def whole(pico1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps with a checkpoint each two."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finetune(job(pico1, folder, num_epochs=1, save_total_limit=9, skip_evaluation=True))
    return folder


def write(root: Path, step: int, state: dict[str, object] | None = None) -> Path:
    with staged(root, step) as folder:
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps(state or {}))
        (folder / "adapter_model.safetensors").write_bytes(b"weights" * step)
    return root / f"checkpoint-{step}"


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 1])
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": content[:-5],
                "emptied": b"",
                "a bit flipped": content[:middle] + flipped + content[middle + 1 :],
                "half of zeros": content[:middle] + bytes(len(content) - middle),
            }[how]
        )


@pytest.mark.parametrize("how", ["removed", "cut", "emptied", "a bit flipped", "half of zeros"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_has_the_checkpoint_passed_over_and_named(
    name: str, how: str, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole / CHECKPOINTS, tmp_path / CHECKPOINTS)
    last = tmp_path / CHECKPOINTS / "checkpoint-6"
    assert newest(tmp_path) == last
    assert set(FILES) <= {path.name for path in last.iterdir()}
    damage(last / name, how)
    assert newest(tmp_path) == last.with_name("checkpoint-4")
    checkpoints.set_aside_damaged(tmp_path)
    assert f"{last} is passed over: {name} " in caplog.text
    assert {path.name for path in last.parent.iterdir()} == {
        *("checkpoint-2", "checkpoint-4", "damaged-checkpoint-6")
    }


@pytest.mark.parametrize("damaged", [("6",), ("4", "6"), ("2", "4", "6")])
def test_a_run_with_damaged_checkpoints_ends_with_the_same_bytes(
    damaged: tuple[str, ...],
    whole: Path,
    pico1: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run/adapter_model.safetensors").unlink()
    for step in damaged:
        damage(tmp_path / f"run/checkpoints/checkpoint-{step}/rng_state.pth", "a bit flipped")
    again = job(pico1, tmp_path / "run", num_epochs=1, save_total_limit=1, skip_evaluation=True)
    finetune(replace(again, resume=True))
    assert adapter_hash(tmp_path / "run") == adapter_hash(whole)
    assert ("training begins at step 0" in caplog.text) == (len(damaged) == 3)
    # the damaged ones do not count among those to keep
    assert newest(tmp_path / "run") == tmp_path / "run/checkpoints/checkpoint-6"


def test_a_checkpoint_counts_on_the_best_one_before_it(tmp_path: Path) -> None:
    root = tmp_path / CHECKPOINTS
    write(root, 1)
    best = write(root, 2, {"best_global_step": 2})
    last = write(root, 3, {"best_global_step": 2})
    assert newest(tmp_path) == last
    shutil.rmtree(best)
    assert newest(tmp_path) == root / "checkpoint-1"


def test_what_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    root = tmp_path / CHECKPOINTS
    first = write(root, 1)
    with pytest.raises(OSError, match="full"), staged(root, 1) as folder:
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(b"half")
        raise OSError("full")
    assert [path.name for path in root.iterdir()] == ["checkpoint-1"]
    assert newest(tmp_path) == first


def test_one_that_makes_way_for_another_of_its_step_is_not_lost_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / CHECKPOINTS
    first = write(root, 1, {"which": "first"})

    def killed_at_the_second(source: Path, target: Path) -> None:
        monkeypatch.undo()
        os.rename(source, target)
        monkeypatch.setattr(os, "rename", lambda *_: sys.exit(9))
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill tidies nothing

    monkeypatch.setattr(os, "rename", killed_at_the_second)
    with pytest.raises(SystemExit):
        write(root, 1, {"which": "second"})
    monkeypatch.undo()
    assert not first.exists()
    assert checkpoints.to_resume(tmp_path, True) == first
    assert json.loads((first / "trainer_state.json").read_text()) == {"which": "first"}
    write(root, 1, {"which": "third"})
    assert json.loads((first / "trainer_state.json").read_text()) == {"which": "third"}
    assert [path.name for path in root.iterdir()] == ["checkpoint-1"]


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    root = tmp_path / CHECKPOINTS
    paths = {step: write(root, step) for step in (2, 9, 10, 11, 100)}
    checkpoints.remove_old(root, 2, str(tmp_path / "moved" / "checkpoint-9"))
    assert {path.name for path in root.iterdir()} == {
        *("checkpoint-9", "checkpoint-11", "checkpoint-100")
    }
    damage(paths[100] / "trainer_state.json", "cut")
    checkpoints.remove_old(root, 1, None)  # one that is damaged takes no other's place
    assert len(list(root.iterdir())) == 3


def test_the_space_that_a_run_needs_is_known_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 4 bytes for each of 1,000 weights and two numbers of Adam, in 2 checkpoints and the one being
    # written, and the adapter itself
    needed = 3 * 12_000 + 4_000
    assert checkpoints.bytes_needed(1000, 2) == needed
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(ValueError, match=r"need about 0\.0 MB.*--save_total_limit"):
        checkpoints.check_space(tmp_path, needed)
    write(tmp_path / CHECKPOINTS, 1)  # what is there already is no longer needed
    checkpoints.check_space(tmp_path, needed)


@pytest.mark.parametrize("full_at", ["tokenizer.json", "optimizer.pt"])
def test_a_disk_that_becomes_full_is_a_sentence_and_the_checkpoint_before_stays(
    full_at: str, pico1: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: the system refuses in the same calls."""
    folder = tmp_path / "run"
    settings = {"lora_rank": 32, "num_epochs": 1, "skip_evaluation": True}
    finetune(job(pico1, folder, max_steps=2, **settings))
    last = folder / CHECKPOINTS / "checkpoint-2"
    place = {"tokenizer.json": folder, "optimizer.pt": last}[full_at]
    limit = (place / full_at).stat().st_size - 1
    child = start(pico1, folder, resume=True, max_file_size=limit, **settings)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 1, said
    assert "Error: The disk is full" in said and f"the newest checkpoint is {last}." in said
    assert "Traceback" not in said
    assert [path.name for path in last.parent.iterdir()] == ["checkpoint-2"]
    assert newest(folder) == last
