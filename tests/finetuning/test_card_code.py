"""The code of a model card runs as it is printed, and answers as our own evaluation does."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.prediction import make_predictor
from evaluation.prompting import make_prompter
from finetuning.training.run import finetune
from models.checkpoint import resolve
from models.loading import load_model
from tasks.base import Example, Turn
from tasks.images import FileImage
from tasks.registry import get_task
from tests.finetuning.training_jobs import job
from tests.models.tiny_families import maker

DIGITS = get_task("digits")


@pytest.mark.parametrize("family", ["paligemma", "idefics3", "gemma3"])
def test_the_cards_code_answers_as_our_evaluation(
    family: str,
    tmp_path: Path,
    pico1: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = pico1 if family == "paligemma" else tmp_path / "base"
    if family != "paligemma":
        maker(family)(base)
    (report,) = finetune(job(base, tmp_path / "run", max_steps=2, quantization="none"))
    new = tmp_path / "new"
    new.touch()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {new.stat().st_mode}  # others can read them
    monkeypatch.chdir(tmp_path / "run")
    report.examples[0].image.open().convert("RGB").resize((64, 64)).save("image.png")
    card = Path("README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    (result,) = header["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["value"] == report.value
    assert tuple(metric["args"]["interval_95"]) == report.uncertainty.interval_95  # type: ignore
    assert "| steps | 2 |" in card

    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('"the/folder/of/the/base"', repr(str(base))), names)
    printed = capsys.readouterr().out.splitlines()[-1]
    loaded = load_model(resolve(str(tmp_path / "run")), quantization="none", device="cpu")
    predictor = make_predictor(
        loaded.model, DIGITS, make_prompter(DIGITS, loaded.family), batch_size=1
    )
    asked = Example(
        example_id=0,
        image=FileImage("image.png"),
        turns=(Turn("user", "What is in the image?"),),
        references=(),
    )
    assert [printed] == predictor([asked])
