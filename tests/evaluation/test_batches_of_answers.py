"""The batches of a predictor: images opened once, memory that runs out, a size that is kept."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from evaluation.answer_log import AnswerLog
from evaluation.prediction import Predictor, make_predictor
from evaluation.prompting import Prompter, make_prompter
from models.base import Family
from models.checkpoint import resolve
from models.encoding import Message
from models.loading import LoadedModel, load_model
from tasks.base import Example, Source, Turn
from tasks.images import FileImage
from tasks.registry import get_task
from tasks.sample import sample_source

VQAV2 = get_task("vqav2")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(resolve("tiny"), quantization="none", device="cpu")


@pytest.fixture(scope="module")
def asked() -> list[Example]:
    """Twelve questions: 0, 3, 6 and 9 on one image, 1, 4, … on another, 2, 5, … on a third."""
    examples = list(VQAV2.load("val", sample_source(VQAV2)))[:12]
    return [replace(e, image=examples[place % 3].image) for place, e in enumerate(examples)]


def predictor(loaded: LoadedModel, batch_size: Any = "auto", **more: Any) -> Predictor:
    prompter = make_prompter(VQAV2, loaded.family)
    return make_predictor(loaded.model, VQAV2, prompter, batch_size=batch_size, **more)


def sizes_of(patch: pytest.MonkeyPatch, most: int | None = None) -> list[int]:
    """The sizes of the batches that are generated; over `most` memory runs out."""
    sizes: list[int] = []
    generate = Family.generate

    def counted(self: Any, model: Any, batch: Any, decoding: Any) -> list[str]:
        sizes.append(len(batch))
        if most is not None and len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(self, model, batch, decoding)

    patch.setattr(Family, "generate", counted)
    return sizes


@pytest.mark.parametrize("num_workers", [0, 1])
def test_answers_of_shared_images_are_those_of_one_question_at_a_time(
    num_workers: int, loaded: LoadedModel, asked: list[Example]
) -> None:
    one_by_one = predictor(loaded, 1)(asked)
    assert len(set(one_by_one)) > 3
    assert predictor(loaded, num_workers=num_workers)(asked) == one_by_one
    assert predictor(loaded, 5)(asked) == one_by_one  # an image in two batches


def test_an_image_is_opened_and_seen_once(
    loaded: LoadedModel, asked: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_image, tower = FileImage.open, loaded.model.base_model.vision_tower

    def counted(self: FileImage) -> Any:
        opened.append(self.path)
        return open_image(self)

    seen: list[int] = []
    hook = tower.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(FileImage, "open", counted)
    predictor(loaded)(asked)
    hook.remove()
    assert sorted(opened) == sorted({example.image.name for example in asked})
    assert seen == [3]


def test_where_memory_runs_out_smaller_batches_give_the_same_answers(
    loaded: LoadedModel,
    asked: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = predictor(loaded)(asked)
    sizes = sizes_of(monkeypatch, most=4)
    assert predictor(loaded)(asked) == expected
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert "Memory ran out; going on with 3 examples at once." in caplog.text


def test_a_number_that_was_given_is_not_changed_where_memory_runs_out(
    loaded: LoadedModel, asked: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes_of(monkeypatch, most=4)
    with pytest.raises(torch.OutOfMemoryError):
        predictor(loaded, 6)(asked)
    assert sizes == [6]


def test_one_example_that_does_not_fit_is_an_error(
    loaded: LoadedModel, asked: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sizes_of(monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        predictor(loaded)(asked[:3])
    assert sizes == [3, 2, 1]


def test_another_fault_is_no_want_of_memory(
    loaded: LoadedModel, asked: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Family, "generate", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        predictor(loaded)(asked)


def test_a_size_that_was_chosen_is_kept_where_an_evaluation_goes_on(
    loaded: LoadedModel,
    asked: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    identity = {"batch_size": "auto"}
    monkeypatch.setattr("evaluation.prediction.choose_batch_size", lambda *_: 5)
    whole = predictor(loaded)(asked, AnswerLog(tmp_path / "whole", identity, resume=False))
    assert "answering up to 5 examples at once" in caplog.text
    path = tmp_path / "whole" / ".answers-0.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 13
    path.write_text("".join(lines[:8]))  # the first batch, and two of the second
    monkeypatch.setattr("evaluation.prediction.choose_batch_size", lambda *_: 8)
    sizes = sizes_of(monkeypatch)
    log = AnswerLog(tmp_path / "whole", identity, resume=True)
    assert predictor(loaded)(asked, log) == whole
    assert sizes == [5, 2]
    again = AnswerLog(tmp_path / "whole", identity, resume=False)  # anew: nothing is kept
    assert again.batch_size is None


class _Counting(Family):
    """A family whose images are of differing size: a token a pixel; a word is a token."""

    def __init__(self) -> None:
        """Without a checkpoint."""

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        return [0] * (1 + len(messages[-1][1].split())), []  # and the image's place

    def process_image(self, image: Any) -> Any:
        raise NotImplementedError

    def count_image_tokens(self, width: int, height: int) -> int:
        return width * height


def test_the_tokens_of_an_image_count_by_its_shape(asked: list[Example]) -> None:
    shape: Any = SimpleNamespace(dimensions=lambda: (3, 5))
    example = replace(asked[0], image=shape, turns=(Turn("user", "how many are there"),))
    prompter = Prompter(family=_Counting(), template="{question}", max_length=64)
    assert prompter.input_lengths([example]) == [4 + 15]
    cut = Prompter(family=_Counting(), template="{question}", max_length=3, truncate=True)
    assert cut.input_lengths([example]) == [3 + 15]


def test_the_lengths_of_a_family_with_one_size_open_no_file(loaded: LoadedModel) -> None:
    example = next(iter(get_task("digits").load("val", Source())))
    prompter = make_prompter(get_task("digits"), loaded.family)
    unreadable = replace(example, image=FileImage("nowhere.png"))
    encoded = prompter.encode(example)
    assert prompter.input_lengths([unreadable]) == [len(encoded.input_ids)]
