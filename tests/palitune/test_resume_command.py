"""What a stopped command says to type."""

import os
from pathlib import Path

import pytest

from common.interruption import Interrupted
from palitune.resuming import resume_command, saying_how_to_resume


@pytest.mark.parametrize(
    ("typed", "num_processes", "expected"),
    [
        ("finetuning/vqav2.py --overwrite", "1", "python finetuning/vqav2.py --resume"),
        ("/venv/bin/palitune train vqav2 --resume", "1", "palitune train vqav2 --resume"),
        ("eval.py --task gqa", "4", "torchrun --nproc_per_node 4 eval.py --task gqa --resume"),
    ],
)
def test_it_is_the_same_command_that_resumes(
    typed: str, num_processes: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", num_processes)
    assert resume_command(typed.split()) == expected


def test_a_word_with_a_blank_is_quoted() -> None:
    words = ["eval.py", "--prompt_template", "what is {question}"]
    assert resume_command(words) == "python eval.py --prompt_template 'what is {question}' --resume"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(2, "step 3 is saved.")])
def test_before_a_run_begins_there_is_nothing_to_resume(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["palitune", "train", "gqa", "--overwrite"])
    record = tmp_path / "run.json"
    for is_there in (False, True):  # that of an older run, which is not written over yet
        if is_there:
            record.write_text("{}")
        with pytest.raises(Interrupted) as stop, saying_how_to_resume(record):
            raise error
        assert "othing was begun, start again by" in stop.value.message
        assert stop.value.message.endswith("palitune train gqa --overwrite")
    with pytest.raises(Interrupted) as stop, saying_how_to_resume(record):
        os.utime(record, ns=(1, 1))  # written, at another time
        raise error
    assert stop.value.message.endswith("t goes on by\n  palitune train gqa --resume")
