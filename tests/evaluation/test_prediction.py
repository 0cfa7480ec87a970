"""Answers that are drawn, and the settings that reach generation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.prediction import Predictor, make_predictor
from evaluation.prompting import make_prompter
from models.checkpoint import resolve
from models.loading import LoadedModel, load_model
from tasks.base import Source
from tasks.registry import get_task

DIGITS = get_task("digits")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    from tests.helpers import make_pico

    folder = make_pico(tmp_path_factory.mktemp("pico"), "gemma")
    return load_model(resolve(str(folder)), quantization="none", device="cpu")


def predictor(loaded: LoadedModel, **generation: Any) -> Predictor:
    prompter = make_prompter(DIGITS, loaded.family)
    return make_predictor(
        loaded.model, DIGITS, prompter, batch_size=4, generation={"max_new_tokens": 6, **generation}
    )


def answers(loaded: LoadedModel, **generation: Any) -> list[str]:
    return predictor(loaded, **generation)(list(DIGITS.load("val", Source()))[:6])


def test_drawn_answers_follow_the_seed_and_leave_the_generator_alone(loaded: LoadedModel) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = answers(loaded, do_sample=True, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    assert answers(loaded, do_sample=True, seed=0) == first
    assert answers(loaded, do_sample=True, seed=1) != first


def test_greedy_answers_know_no_seed(loaded: LoadedModel) -> None:
    assert answers(loaded, seed=0) == answers(loaded, seed=1)


def test_a_tiny_mass_of_tokens_to_draw_from_is_greedy(loaded: LoadedModel) -> None:
    assert answers(loaded, do_sample=True, top_p=1e-6) == answers(loaded)


def test_a_hot_draw_is_another_one(loaded: LoadedModel) -> None:
    cold = answers(loaded, do_sample=True, temperature=1e-6)
    assert cold == answers(loaded)
    assert answers(loaded, do_sample=True, temperature=50.0) != cold


def test_what_is_not_given_is_the_tasks_own(loaded: LoadedModel, tmp_path: Path) -> None:
    made = make_predictor(
        loaded.model,
        get_task("coco"),
        make_prompter(get_task("coco"), loaded.family),
        batch_size=1,
        generation={"max_new_tokens": None, "num_beams": None, "min_new_tokens": 3},
    )
    assert (made.decoding.max_new_tokens, made.decoding.num_beams) == (48, 2)
    assert made.decoding.min_new_tokens == 3


def test_the_settings_reach_generation(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    generate = loaded.model.generate

    def record(**arguments: Any) -> Any:
        given.update(arguments)
        return generate(**arguments)

    monkeypatch.setattr(loaded.model, "generate", record)
    settings = {"min_new_tokens": 2, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    answers(loaded, **settings)
    assert {name: given[name] for name in settings} == settings
    given.clear()
    answers(loaded)
    assert not given["do_sample"] and "temperature" not in given


@pytest.mark.parametrize(
    ("written", "num_tokens", "is_whole"),
    [([9, 8, 1, 0, 0], 3, True), ([9, 8, 7], 3, False), ([1], 1, True), ([2, 9], 1, True)],
)
def test_tokens_of_an_answer_are_counted_up_to_its_end(
    written: list[int],
    num_tokens: int,
    is_whole: bool,
    loaded: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", [1, 2])
    monkeypatch.setattr(loaded.family, "answer_ids", lambda *_: torch.tensor([written]))
    answer = predictor(loaded).answer_one(DIGITS.load("val", Source())[0])
    assert (answer.num_tokens, answer.is_whole) == (num_tokens, is_whole)


def test_one_example_is_answered_as_among_others(loaded: LoadedModel) -> None:
    for settings in ({}, {"do_sample": True, "seed": 3}):
        one = predictor(loaded, **settings)
        example = DIGITS.load("val", Source())[0]
        assert [one.answer_one(example).text] == one([example])
