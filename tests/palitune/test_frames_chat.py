"""Chats about frames through the script."""

import re
from pathlib import Path

from click.testing import CliRunner

from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.loading import load_family
from palitune.main import palitune
from tasks.base import Source
from tasks.registry import get_task
from tests.models.tiny_families import maker
from tests.tasks.test_frames_chat import write_frames


def test_all_of_the_assistants_turns_are_learned_and_nothing_else(tmp_path: Path) -> None:
    write_frames(tmp_path)
    maker("llava")(tmp_path / "llava")
    task = get_task("frames_chat")
    prompter = make_prompter(task, load_family(resolve(str(tmp_path / "llava"))))
    data = task.load("train", Source(data_root=tmp_path / "frames"))
    example = next(e for e in data if e.example_id == 2 * 7 + 1)  # two questions of frame 07
    encoded = prompter.encode(example, task.target(example, 0, 0))
    pairs = zip(encoded.input_ids, encoded.is_target, strict=True)
    learned = prompter.family.tokenizer.decode([id_ for id_, is_learned in pairs if is_learned])
    assert learned.replace(" ", "") == "Thegate7.<eos>3<eos>"


def test_the_script_has_the_settings_of_the_guide() -> None:
    train = palitune.commands["train"]
    command = train.commands["frames_chat"]  # type: ignore[attr-defined]
    defaults = {option.name: option.default for option in command.params}
    expected = {"learning_rate": 1.4e-5, "batch_size": 8, "num_epochs": 1, "quantization": "nf4"}
    assert {name: defaults[name] for name in expected} == expected
    assert defaults["report_to"] == "tensorboard"
    assert defaults["model_path"] == "llava-hf/llava-1.5-7b-hf"


def test_frames_that_are_not_there_are_said_at_once(tmp_path: Path) -> None:
    arguments = ["train", "frames_chat", "--frames", str(tmp_path / "no"), "--model_path", "tiny"]
    result = CliRunner().invoke(palitune, arguments)
    assert result.exit_code == 2
    assert re.search(r"--frames .*no does not exist", result.output)
