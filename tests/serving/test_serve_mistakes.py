"""What `palitune serve` refuses before a server starts, in one sentence."""

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration

from evaluation.side_by_side import tell_apart
from tests.helpers import make_pico, sentence
from tests.merging.algebra.make_adapters import train
from tests.palitune.commands import run_command
from tests.serving.served import write_json


def refused(*words: object) -> str:
    result = run_command("serve", "--port", 0, "--device", "cpu", *words, exit_code=2)
    return sentence(result.exit_code, result.output)


def named(*models: object) -> list[object]:
    return [word for model in models for word in ("--model_path", model)]


def test_a_port_in_use_is_named(pico1: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = refused(*named(pico1), "--task", "vqav2", "--port", port)
    assert text == (
        f"Port {port} of 127.0.0.1 is in use; choose another by --port, or 0 for any free one."
    )


def test_without_gradio_the_command_to_install_it_is_named(
    pico1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palitune.serve.find_spec", lambda _: None)
    text = refused(*named(pico1))
    assert re.search(r"`pip install 'fastapi>=\S+' 'gradio>=\S+' 'uvicorn>=\S+'`\.$", text), text


def test_without_any_task_one_is_asked_for(pico1: Path) -> None:
    assert "name one by --task: coco_captioning, docvqa" in refused(*named(pico1))


def test_one_base_is_served(models: list[Path], tmp_path: Path) -> None:
    other = make_pico(tmp_path / "other", "gemma", seed=1)
    assert "one base is held in memory" in refused(*named(models[1], other))
    config = json.loads((models[2] / "adapter_config.json").read_text())
    moved = tmp_path / "moved"
    moved.mkdir()
    write_json(moved / "adapter_config.json", {**config, "base_model_name_or_path": str(other)})
    text = refused(*named(*models, moved))
    assert str(other) in text and "one base is held in memory" in text


def test_a_model_named_twice_is_refused(models: list[Path]) -> None:
    assert f"{models[1]} and {models[1]}/ are one model" in refused(
        *named(models[1], f"{models[1]}/")
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"quantization": "nf4"}, "{} in none and {} in nf4; choose by --quantization."),
        (
            {"quantization": "none", "dtype": "bf16"},
            "{} in auto and {} in bf16; choose by --dtype.",
        ),
    ],
)
def test_two_precisions_are_refused(
    settings: dict[str, str], expected: str, models: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "run"
    other.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (other / name).symlink_to(models[1] / name)
    write_json(other / "run.json", {"task": "vqav2", "settings": settings})
    text = refused(*named(models[1], other))
    assert expected.format(models[1], other) in text


def with_bias(folder: Path, pico: Path) -> str:
    model = PaliGemmaForConditionalGeneration.from_pretrained(pico, dtype=torch.float32)
    train(model, folder, r=2, target_modules=["q_proj"], bias="all")
    return "bias all"


def with_whole_tensors(folder: Path, pico: Path) -> str:
    model = PaliGemmaForConditionalGeneration.from_pretrained(pico, dtype=torch.float32)
    train(model, folder, r=2, target_modules=["q_proj"])
    name = "model.multi_modal_projector.linear.bias"
    torch.save({name: model.get_parameter(name).detach()}, folder / "non_lora_trainables.bin")
    return "a file of whole tensors"


def with_pissa(folder: Path, pico: Path) -> str:
    model = PaliGemmaForConditionalGeneration.from_pretrained(pico, dtype=torch.float32)
    train(model, folder, r=2, target_modules=["q_proj"])
    path = folder / "adapter_config.json"
    write_json(path, {**json.loads(path.read_text()), "init_lora_weights": "pissa"})
    return "init_lora_weights pissa"


@pytest.mark.parametrize("write", [with_bias, with_whole_tensors, with_pissa])
def test_an_adapter_that_changes_its_base_is_asked_alone(
    write: Callable[[Path, Path], str], models: list[Path], tmp_path: Path
) -> None:
    what = write(tmp_path / "run", models[0])
    text = refused(*named(models[0], tmp_path / "run"), "--task", "vqav2")
    assert f"changes weights of the base model itself ({what})" in text
    assert text.endswith("ask it alone.")


def test_names_are_those_of_folders_and_told_apart(tmp_path: Path) -> None:
    places = ("a/x/run", "b/x/run", "c/other", "d/long/checkpoints/step-5")
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    paths = ["tiny", "org/model", *(str(tmp_path / place) for place in places)]
    expected = ["tiny", "org/model", "a/x/run", "b/x/run", "other", "long/checkpoints/step-5"]
    assert tell_apart(paths) == expected
