"""A base that is stored in 4 bits: merged onto the weights that a training on it has seen."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoint import resolve
from models.loading import load_model
from tests.helpers import sentence
from tests.merging.merge_inputs import SETTINGS, edit_config, run, write_adapter
from tests.models.examples import image


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    loaded = load_model(resolve("tiny"), quantization="nf4", device="cpu")
    loaded.model.save_pretrained(folder / "base")
    loaded.family.save(str(folder / "base"))
    write_adapter(folder / "a", **SETTINGS["a"])
    edit_config(folder / "a", base_model_name_or_path=str(folder / "base"))
    return folder


def logits(folder: Path, quantization: str) -> Tensor:
    loaded = load_model(
        resolve(str(folder)),
        quantization=quantization,  # type: ignore[arg-type]
        dtype="fp32",
        device="cpu",
    )
    batch = loaded.family.collate([loaded.family.encode(image(), [("user", "what is it?")])])
    batch.pop("labels")
    with torch.no_grad():
        found: Tensor = loaded.model(**batch).logits
    return found


def test_the_full_model_answers_as_the_adapter_on_the_stored_base(
    stored: Path, tmp_path: Path
) -> None:
    result = run(stored, tmp_path / "out", names="a", base=stored / "base")
    assert result.exit_code == 0, result.output
    expected = logits(stored / "a", "nf4")
    plain = logits(stored / "base", "nf4")
    assert (expected - plain).abs().max() > 0.01 * plain.std()
    assert torch.allclose(logits(tmp_path / "out", "none"), expected, atol=1e-4)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert "quantization_config" not in config
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_weights_that_cannot_be_given_back_are_refused(stored: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in (stored / "base").iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    options = ("--allow_base_mismatch",)
    result = run(stored, tmp_path / "out", *options, names="a", base=base)
    said = sentence(result.exit_code, result.stderr)
    assert "is quantised (gptq) and a full export needs the unquantised base" in said
