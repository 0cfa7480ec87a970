"""Models on one base: asked from many threads, stopped on the way, tried on drawn questions."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PaliGemmaForConditionalGeneration

from evaluation.request import ModelRequest, PromptRequest
from evaluation.sample_questions import sample_questions
from evaluation.side_by_side import Question, SideBySide, load_side_by_side
from models.checkpoint import resolve
from models.loading import load_model
from tasks.base import Turn
from tasks.registry import get_task
from tests.evaluation.evaluated import example
from tests.merging.algebra.make_adapters import train

VQAV2 = get_task("vqav2")


@pytest.fixture
def models(pico1: Path, tmp_path: Path) -> SideBySide:
    base = PaliGemmaForConditionalGeneration.from_pretrained(pico1, dtype=torch.float32)
    train(base, tmp_path / "lora", r=4, target_modules=["q_proj", "v_proj"])
    saved = ["multi_modal_projector"]
    train(base, tmp_path / "saved", r=2, target_modules=["o_proj"], modules_to_save=saved)
    places = [str(pico1), str(tmp_path / "lora"), str(tmp_path / "saved")]
    wanted = [ModelRequest(path=place, device="cpu", quantization="none") for place in places]
    return load_side_by_side(wanted, VQAV2)


def question(number: int) -> Question:
    return Question(
        image=example(number).image,
        task=VQAV2,
        turns=(Turn("user", f"which colour has number {number}?"),),
        prompt=PromptRequest(),
    )


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_each_adapter_computes_as_it_does_alone_on_its_base(models: SideBySide) -> None:
    candidates = list(models.candidates.values())
    family = candidates[0].family
    encoded = family.encode(example(0).image.open(), [("user", "answer en what is it?")])
    inputs = family.collate([encoded])
    seen = []
    for candidate in (*candidates, *reversed(candidates)):
        place = candidate.found.wanted.path
        alone = load_model(resolve(place), quantization="none", device="cpu").model
        with models._active(candidate):
            seen.append(logits(models._model, inputs))
        assert torch.equal(seen[-1], logits(alone, inputs)), place
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_threads_that_ask_different_models_get_what_one_alone_gets(models: SideBySide) -> None:
    asked = [(name, n) for n in range(4) for name in models.candidates]
    expected = [models.answer(name, question(n)).prediction for name, n in asked]
    assert len(set(expected)) > 3
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda pair: models.answer(pair[0], question(pair[1])), asked)
        assert [answer.prediction for answer in found] == expected


def test_an_answer_on_the_way_ends_where_the_models_are_stopped(models: SideBySide) -> None:
    models.stop()
    with pytest.raises(ValueError, match="stopped before they had answered"):
        models.answer("lora", question(0))


def test_the_base_is_held_as_its_adapters_runs_have_it(models: SideBySide) -> None:
    base, lora, saved = (one.found.wanted for one in models.candidates.values())
    for place in (lora, saved):
        record = {"task": "vqav2", "settings": {"quantization": "none", "dtype": "bf16"}}
        (Path(place.path) / "run.json").write_text(json.dumps(record))
    wanted = [replace(one, dtype=None, quantization=None) for one in (base, lora, saved)]
    weights = load_side_by_side(wanted, None)._model.get_base_model().parameters()
    assert torch.bfloat16 in {weight.dtype for weight in weights}
    # fp32 and auto are one precision here
    record["settings"]["dtype"] = "fp32"
    (Path(lora.path) / "run.json").write_text(json.dumps(record))
    record["settings"]["dtype"] = "auto"
    (Path(saved.path) / "run.json").write_text(json.dumps(record))
    load_side_by_side(wanted, None)


def test_drawn_questions_stand_in_where_no_evaluation_is_there() -> None:
    digits = get_task("digits")
    found = sample_questions(SimpleNamespace(tasks=[digits], candidates={}), 3)  # type: ignore[arg-type]
    assert [entry.question for entry in found] == ["which digit is this?"] * 3
    assert len({entry.image.name for entry in found}) == 3
    tables = SimpleNamespace(tasks=[get_task("csv_qa")], candidates={})
    assert sample_questions(tables) == []  # type: ignore[arg-type]
