"""The answers of every family: an image seen once, rows that leave."""

from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

import models.generation as generation
from models.checkpoint import resolve
from models.encoding import Encoded
from models.generation import generate_ids
from models.loading import LoadedModel, load_model
from models.settings import Decoding
from models.shared_images import share_images
from tests.models.examples import image
from tests.models.tiny_families import NAMES, maker

QUESTIONS = ["what is it?", "is there a red circle on the left?", "how many?", "where is it"]
IMAGES = [(80, 50), (120, 40), (50, 90)]  # asked two, three and four questions
NEW = 12
GREEDY = Decoding(max_new_tokens=NEW)


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    maker(request.param)(folder)
    return load_model(resolve(str(folder)), quantization="none", dtype="fp32", device="cpu")


def shared_batch(loaded: LoadedModel) -> list[Encoded]:
    """Nine questions on three images."""
    return [
        encoded
        for seed, size in enumerate(IMAGES)
        for encoded in loaded.family.encode_all(
            [image(size, seed)], [[("user", question)] for question in QUESTIONS[: 2 + seed]]
        )
    ]


def inputs_of(loaded: LoadedModel, batch: list[Encoded]) -> dict[str, Any]:
    tensors = loaded.family.collate(batch)
    return {name: tensor for name, tensor in tensors.items() if name != "labels"}


def plain_ids(loaded: LoadedModel, **settings: Any) -> torch.Tensor:
    """What the library's own loop answers, each question with pixels of its own."""
    batch = [
        loaded.family.encode(image(size, seed), [("user", question)])
        for seed, size in enumerate(IMAGES)
        for question in QUESTIONS[: 2 + seed]
    ]
    inputs = inputs_of(loaded, batch)
    with torch.no_grad():
        output = loaded.model.generate(**inputs, max_new_tokens=NEW, do_sample=False, **settings)
    return output[:, inputs["input_ids"].shape[1] :]


def shared_ids(loaded: LoadedModel, decoding: Decoding) -> torch.Tensor:
    batch = shared_batch(loaded)
    with torch.no_grad():
        inputs = share_images(loaded.model, batch, inputs_of(loaded, batch), loaded.family.stack)
    assert ("mm_encoder_outputs" in inputs) == (loaded.family.name != "blip2")
    return generate_ids(loaded.model, inputs, decoding)


@pytest.fixture
def early_ends(loaded: LoadedModel) -> Iterator[None]:
    """Some rows end after one token, some later, some never: by tokens of the plain answers."""
    is_blip2 = loaded.family.name == "blip2"  # whose language model generates by itself
    writer = loaded.model.language_model if is_blip2 else loaded.model
    config = writer.generation_config
    before = config.eos_token_id
    answers = plain_ids(loaded)
    config.eos_token_id = sorted({int(answers[row, row % 5 + row // 5]) for row in (0, 2, 3, 6)})
    yield
    config.eos_token_id = before


def test_an_answer_leaves_when_it_ends_and_all_are_those_of_the_library(
    loaded: LoadedModel, early_ends: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain_ids(loaded)
    rows = []
    cut = generation._of_rows

    def counted(inputs: Any, stays: torch.Tensor) -> Any:
        rows.append(len(stays))
        return cut(inputs, stays)

    monkeypatch.setattr(generation, "_of_rows", counted)
    assert torch.equal(shared_ids(loaded, GREEDY), expected)
    assert rows and rows[0] < 9 and rows == sorted(rows, reverse=True)


def test_long_answers_of_shared_images_are_those_of_the_library(loaded: LoadedModel) -> None:
    expected = plain_ids(loaded)
    assert len({tuple(row.tolist()) for row in expected}) > 1  # else nothing would be compared
    assert torch.equal(shared_ids(loaded, GREEDY), expected)


def test_beams_over_shared_images_are_those_of_the_library(loaded: LoadedModel) -> None:
    expected = plain_ids(loaded, num_beams=3)
    assert torch.equal(shared_ids(loaded, Decoding(max_new_tokens=NEW, num_beams=3)), expected)


def test_the_fewest_tokens_hold_for_rows_that_are_left(
    loaded: LoadedModel, early_ends: None
) -> None:
    expected = plain_ids(loaded, min_new_tokens=4)
    assert torch.equal(shared_ids(loaded, Decoding(max_new_tokens=NEW, min_new_tokens=4)), expected)


def test_the_tower_runs_once_an_image(loaded: LoadedModel) -> None:
    if loaded.family.name == "blip2":  # its own generate looks at each example's pixels
        return
    batch = shared_batch(loaded)
    see, seen = loaded.model.base_model.get_image_features, []

    def counted(pixel_values: Any, *args: Any, **more: Any) -> Any:
        seen.append(pixel_values.shape)
        return see(pixel_values, *args, **more)

    counted.__signature__ = signature(see)  # type: ignore[attr-defined]
    loaded.model.base_model.get_image_features = counted
    try:
        loaded.family.generate(loaded.model, batch, Decoding(max_new_tokens=2))
        one_each = loaded.family.stack([batch[place].pixels for place in (0, 2, 5)])
    finally:
        del loaded.model.base_model.get_image_features
    assert seen == [one_each["pixel_values"].shape]


def test_a_cache_that_is_not_known_is_left_to_the_library(
    loaded: LoadedModel, early_ends: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain_ids(loaded)
    monkeypatch.setattr(generation, "DynamicLayer", int)
    monkeypatch.setattr(generation, "DynamicSlidingWindowLayer", int)
    monkeypatch.setattr(generation, "_of_rows", lambda *_: pytest.fail("rows were cut"))
    assert torch.equal(shared_ids(loaded, GREEDY), expected)


def test_an_image_is_as_many_tokens_as_are_counted_by_its_shape(loaded: LoadedModel) -> None:
    for width, height in [(64, 64), (80, 50), (200, 40), (31, 90)]:
        _, ids = loaded.family.process_image(image((width, height)))
        if loaded.family.name != "generic":  # of which all shapes count alike
            assert loaded.family.count_image_tokens(width, height) == len(ids)


def test_conversations_on_one_image_are_encoded_as_each_by_itself(loaded: LoadedModel) -> None:
    together = shared_batch(loaded)[2:5]
    alone = [
        loaded.family.encode(image(IMAGES[1], 1), [("user", question)])
        for question in QUESTIONS[:3]
    ]
    assert together[0].pixels is together[2].pixels
    for one, other in zip(together, alone, strict=True):
        assert (one.input_ids, one.image_spans) == (other.input_ids, other.image_spans)
        assert all(torch.equal(one.pixels[name], other.pixels[name]) for name in other.pixels)
