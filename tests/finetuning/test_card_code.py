"""The code of a model card runs as it is printed, and answers as our own evaluation does."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from common.markup import markdown
from finetuning.training.run import finetune
from tests.evaluation.card_code import check_card_code
from tests.finetuning.training_jobs import job
from tests.models.tiny_families import maker


@pytest.mark.parametrize("family", ["paligemma", "idefics3", "gemma3"])
def test_the_cards_code_answers_as_our_evaluation(family: str, tmp_path: Path, pico1: Path) -> None:
    base = pico1 if family == "paligemma" else tmp_path / "base"
    if family != "paligemma":
        maker(family)(base)
    (report,) = finetune(job(base, tmp_path / "run", max_steps=2, quantization="none"))
    new = tmp_path / "new"
    new.touch()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {new.stat().st_mode}  # others can read them
    card = (tmp_path / "run" / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    (result,) = header["model-index"][0]["results"]
    (metric,) = result["metrics"]
    assert metric["value"] == report.value
    assert tuple(metric["args"]["interval_95"]) == report.uncertainty.interval_95  # type: ignore
    assert "| steps | 2 |" in card

    example = report.examples[0]
    assert f"Question: {example.turns[0].text}\n" in card
    assert f"Answer of the model: {markdown(report.predictions[0])} (accepted: " in card
    assert "](sample.png)" in card and "CC BY 4.0" in card
    with Image.open(tmp_path / "run" / "sample.png") as sample:
        assert sample.tobytes() == example.image.open().convert("RGB").tobytes()

    check_card_code(tmp_path / "run", base, example.image.open())
