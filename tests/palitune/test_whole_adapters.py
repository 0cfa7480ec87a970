"""Each command that takes an adapter applies all of it, or refuses it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from palitune.main import palitune
from tests.helpers import sentence
from tests.merging.merge_inputs import TINY, write_adapter

LAYERS = r"model\.language_model\.layers\.[01]\.self_attn\.(q|v)_proj"
REMOVED = "model.language_model.layers.1.self_attn.v_proj"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter without one of the layers that its config names."""
    folder = write_adapter(tmp_path_factory.mktemp("adapter"), target_modules=LAYERS)
    tensors = load_file(folder / "adapter_model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if REMOVED not in key}
    assert len(kept) == len(tensors) - 2 == 6
    save_file(kept, folder / "adapter_model.safetensors")
    return folder


def command(name: str, adapter: Path, out: Path) -> list[object]:
    data = ("--data_root", "sample", "--device", "cpu")
    return {
        "eval": ["eval", "--model_path", adapter, "--task", "digits", *data, "--output_dir", out],
        "train": [
            *("train", "digits", "--model_path", "tiny", "--lora_init_from", adapter),
            *(*data, "--max_steps", 1, "--output_dir", out, "--quantization", "none"),
        ],
        "merge": ["merge", "--base_model", TINY, "--model_a", adapter, "--output", out],
        "doctor": ["doctor", "--model_path", adapter, "--device", "cpu"],
    }[name]


def run(arguments: list[object]) -> Result:
    return CliRunner().invoke(palitune, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["eval", "train", "merge", "doctor"])
def test_an_adapter_without_one_of_its_layers_is_refused(
    name: str, adapter: Path, tmp_path: Path
) -> None:
    result = run(command(name, adapter, tmp_path / "out"))
    said = sentence(result.exit_code, result.stderr)
    assert "lacks the updates of 1 layers" in said and REMOVED in said
    assert not (tmp_path / "out").exists()


def test_the_doctor_sees_that_an_adapter_is_applied(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, target_modules=LAYERS, alpha_pattern={"v_proj": 3})
    result = run(["doctor", "--model_path", folder, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "applied" in line]
    assert line.startswith("pass") and "of base + update computed by hand" in line


def scaled(put: Callable[..., object]) -> Callable[..., object]:
    def put_wrongly(model: object, folder: Path, **options: object) -> object:
        adapted = put(model, folder, **options)
        for name, parameter in adapted.named_parameters():  # type: ignore[attr-defined]
            if "lora_B" in name:
                parameter.data *= 1.05
        return adapted

    return put_wrongly


def test_the_doctor_finds_an_update_that_is_not_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetuning.training import adapter_probe

    folder = write_adapter(tmp_path, target_modules=LAYERS)
    monkeypatch.setattr(adapter_probe, "put_adapter", scaled(adapter_probe.put_adapter))
    result = run(["doctor", "--model_path", folder, "--device", "cpu"])
    assert result.exit_code == 1
    assert "1 of 10 probes failed (applied)" in result.stderr


def test_the_doctor_says_that_an_adapter_changes_nothing(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, target_modules=LAYERS)
    tensors = load_file(folder / "adapter_model.safetensors")
    zeroed = {key: 0 * tensor if "lora_B" in key else tensor for key, tensor in tensors.items()}
    save_file(zeroed, folder / "adapter_model.safetensors")
    result = run(["doctor", "--model_path", folder, "--device", "cpu"])
    assert result.exit_code == 1
    assert "The adapter changes nothing." in result.stdout


def test_merging_takes_the_former_names_of_qwen(tmp_path: Path) -> None:
    from merging.algebra.reader import read_adapter
    from tests.merging.algebra.adapter_files import lora, write_files

    name = "layers.0.self_attn.q_proj"
    folder = write_files(
        tmp_path, lora(f"base_model.model.model.{name}"), target_modules=rf"model\.{name}"
    )
    layers = [f"model.language_model.{name}", f"model.language_model.{name.replace('0', '1')}"]
    assert list(read_adapter(folder, "qwen2_vl", layers).updates) == [layers[0]]
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"target_modules": r"model\.layers\.[01]\.self_attn\.q_proj"})
    )
    with pytest.raises(ValueError, match="lacks the updates of 1 layers"):
        read_adapter(folder, "qwen2_vl", layers)


def test_a_base_with_other_weights_is_refused_unless_that_is_allowed(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", target_modules=LAYERS)
    record = {"task": "digits", "settings": {"quantization": "none"}}
    (folder / "run.json").write_text(
        json.dumps({**record, "base_fingerprint": "w2:0123456789abcdef"})
    )
    arguments = [*command("eval", folder, tmp_path / "out"), "--max_eval_samples", 2]
    result = run(arguments)
    said = sentence(result.exit_code, result.stderr)
    assert "has other weights" in said and "--allow_base_mismatch" in said
    result = run([*arguments, "--allow_base_mismatch"])
    assert result.exit_code == 0, result.output
    assert "has other weights." in result.output
