"""A model is computed in the precision of its run, where none is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.found_model import find_model
from evaluation.request import ModelRequest, PromptRequest


@pytest.mark.parametrize(
    ("settings", "asked", "expected"),
    [
        ({"dtype": "bf16"}, None, "bf16"),
        ({"dtype": "bf16"}, "fp32", "fp32"),
        ({}, None, "auto"),
    ],
)
def test_the_precision_is_the_one_asked_for_or_the_runs(
    settings: dict[str, str], asked: Any, expected: str, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings}))
    config = {"peft_type": "LORA", "base_model_name_or_path": "tiny"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    taken: dict[str, Any] = {}

    def load(*_: object, **arguments: Any) -> Any:
        taken.update(arguments)
        raise InterruptedError

    monkeypatch.setattr("models.loading.load_model", load)
    found = find_model(ModelRequest(path=str(tmp_path), dtype=asked), PromptRequest())
    with pytest.raises(InterruptedError):
        found.load(found.family())
    assert taken["dtype"] == expected
