"""The mask, the positions, the padding and the layout of PaliGemma 1 and 2.

Each property is stated by a function that measures; it is asserted on what `collate` makes, and
asserted to be violated once the batch is broken in the way that well-known trainers break it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoint import resolve
from models.encoding import Encoded
from models.loading import LoadedModel, load_model
from models.paligemma import PaliGemma
from models.settings import Decoding
from tests.models.examples import image

ANSWER = "a red circle and a blue square"
TOLERANCE = 2e-5  # fp32 sums in another order


@pytest.fixture(scope="module")
def loaded(pico: Path) -> LoadedModel:
    return load_model(resolve(str(pico)), quantization="none", device="cpu")


def encoded(family: Any, question: str, answer: str | None = None, seed: int = 0) -> Encoded:
    messages = [("user", question)] + ([("assistant", answer)] if answer is not None else [])
    return family.encode(image(seed=seed), messages)


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    with torch.no_grad():
        return model(**inputs).logits


def leak(model: Any, batch: dict[str, Tensor]) -> float:
    """How far the answer's earlier logits move when its last token but <eos> is changed."""
    changed = {name: tensor.clone() for name, tensor in batch.items()}
    changed["input_ids"][:, -2] = (changed["input_ids"][:, -2] + 1) % 600
    return float((logits(model, batch) - logits(model, changed))[:, :-2].abs().max())


def look_ahead(model: Any, batch: dict[str, Tensor], num_prefix: int) -> float:
    """How far the first image token's logits move when the last prompt token is changed."""
    changed = {name: tensor.clone() for name, tensor in batch.items()}
    changed["input_ids"][:, num_prefix - 1] = 300
    return float((logits(model, batch) - logits(model, changed))[:, 0].abs().max())


def generation_gap(model: Any, train: dict[str, Tensor], ask: dict[str, Tensor]) -> float:
    """Difference of the logits that predict the first answer token, training against asking."""
    first = int((train["labels"][0] != -100).nonzero()[0])
    inputs = {name: tensor for name, tensor in ask.items() if name != "labels"}
    output = model.generate(
        **inputs,
        max_new_tokens=1,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    return float((logits(model, train)[0, first - 1] - output.scores[0][0]).abs().max())


def padding_gap(model: Any, family: Any, alone: Encoded, others: Sequence[Encoded]) -> float:
    """Difference of an example's logits alone and beside longer ones."""
    length = len(alone.input_ids)
    single = logits(model, family.collate([alone]))[0]
    beside = logits(model, family.collate([alone, *others]))[0]
    return float((single - beside[-length:]).abs().max())


def test_a_later_answer_token_never_moves_an_earlier_answer_logit(loaded: LoadedModel) -> None:
    batch = loaded.family.collate([encoded(loaded.family, "what is it?", ANSWER)])
    assert leak(loaded.model, batch) == 0


def test_the_leak_is_found_when_the_answer_is_marked_as_prefix(loaded: LoadedModel) -> None:
    batch = loaded.family.collate([encoded(loaded.family, "what is it?", ANSWER)])
    batch["token_type_ids"].zero_()
    assert leak(loaded.model, batch) > 1e-3


def test_image_and_prompt_attend_to_each_other_in_both_directions(loaded: LoadedModel) -> None:
    example = encoded(loaded.family, "what is it?", ANSWER)
    batch = loaded.family.collate([example])
    assert look_ahead(loaded.model, batch, example.is_target.index(True)) > 1e-3


def test_a_causal_prompt_is_found(loaded: LoadedModel) -> None:
    example = encoded(loaded.family, "what is it?", ANSWER)
    batch = loaded.family.collate([example])
    batch["token_type_ids"].fill_(1)
    assert look_ahead(loaded.model, batch, example.is_target.index(True)) == 0


def test_a_batch_without_token_types_is_found(loaded: LoadedModel) -> None:
    """Such a batch leaks the answer (PaliGemma 1, sdpa) or makes the prompt causal (2, eager)."""
    example = encoded(loaded.family, "what is it?", ANSWER)
    batch = loaded.family.collate([example])
    del batch["token_type_ids"]
    leaks = leak(loaded.model, batch) > 1e-3
    assert leaks or look_ahead(loaded.model, batch, example.is_target.index(True)) == 0


def test_padding_never_moves_a_logit(loaded: LoadedModel) -> None:
    short = encoded(loaded.family, "what is it?", "red")
    longer = [encoded(loaded.family, "what is it? " * n, ANSWER, seed=n) for n in (2, 5)]
    assert padding_gap(loaded.model, loaded.family, short, longer) < TOLERANCE


def test_padding_that_is_attended_to_is_found(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = loaded.family.collate

    def without_mask(batch: Sequence[Encoded]) -> dict[str, Tensor]:
        tensors = collate(batch)
        return tensors | {"attention_mask": torch.ones_like(tensors["attention_mask"])}

    monkeypatch.setattr(loaded.family, "collate", without_mask)
    short = encoded(loaded.family, "what is it?", "red")
    longer = [encoded(loaded.family, "what is it? " * 3, ANSWER)]
    assert padding_gap(loaded.model, loaded.family, short, longer) > 1e-3


def test_positions_that_do_not_count_by_one_are_found(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = loaded.family.collate

    def with_gap(batch: Sequence[Encoded]) -> dict[str, Tensor]:
        tensors = collate(batch)
        positions = torch.arange(tensors["input_ids"].shape[1]).expand_as(tensors["input_ids"])
        gap = 7 * (tensors["token_type_ids"] == 1) if len(batch) > 1 else 0
        return tensors | {"position_ids": positions + 1 + gap}

    monkeypatch.setattr(loaded.family, "collate", with_gap)
    short = encoded(loaded.family, "what is it?", ANSWER)
    assert padding_gap(loaded.model, loaded.family, short, [short]) > 1e-3


def test_training_and_generation_agree_on_the_first_answer_token(loaded: LoadedModel) -> None:
    train = loaded.family.collate([encoded(loaded.family, "what is it?", ANSWER)])
    ask = loaded.family.collate([encoded(loaded.family, "what is it?")])
    assert generation_gap(loaded.model, train, ask) < TOLERANCE


def test_generation_with_a_causal_prompt_is_found(loaded: LoadedModel) -> None:
    train = loaded.family.collate([encoded(loaded.family, "what is it?", ANSWER)])
    ask = loaded.family.collate([encoded(loaded.family, "what is it?")])
    ask["token_type_ids"].fill_(1)
    assert generation_gap(loaded.model, train, ask) > 1e-3


def test_labels_are_exactly_the_answer_and_its_end(loaded: LoadedModel) -> None:
    batch = loaded.family.collate(
        [
            encoded(loaded.family, "what is it?", ANSWER),
            encoded(loaded.family, "and this one, what is it?", "red"),
        ]
    )
    tokenizer = loaded.family.processor.tokenizer
    texts = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert texts == [ANSWER + "<eos>", "red<eos>"]


def test_every_tensor_equals_that_of_the_real_processor(loaded: LoadedModel) -> None:
    questions, answers = ["answer en what is it?", "caption en"], ["red", ANSWER]
    ours = loaded.family.collate(
        [
            encoded(loaded.family, question, answer, seed)
            for seed, (question, answer) in enumerate(zip(questions, answers, strict=True))
        ]
    )
    theirs = loaded.family.processor(
        images=[image(seed=0), image(seed=1)],
        text=["<image>" + question for question in questions],
        suffix=answers,
        padding=True,
        return_tensors="pt",
    )
    assert set(ours) == set(theirs)
    # on padding the processor writes 0 as token type, as we do
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("text", ["a <image> here", "say <eos>", "<bos><pad>", "<start_of_image>"])
def test_special_tokens_in_a_question_stay_text(loaded: LoadedModel, text: str) -> None:
    family = loaded.family
    example = encoded(family, text, text)
    assert isinstance(family, PaliGemma)
    special = {family.processor.image_token_id, *family.tokenizer.all_special_ids}
    question = example.input_ids[family.num_image_tokens + 1 : example.is_target.index(True)]
    answer = example.input_ids[example.is_target.index(True) : -1]
    assert not special & {*question, *answer}
    assert family.tokenizer.decode(question) == text + "\n"
    assert family.tokenizer.decode(answer) == text


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_do_not_depend_on_the_batch_size(loaded: LoadedModel, num_beams: int) -> None:
    questions = ["what is it?", "and this?", "how many shapes are there in the picture?", "a"] * 2
    examples = [encoded(loaded.family, q, seed=i) for i, q in enumerate(questions)]
    decoding = Decoding(max_new_tokens=12, num_beams=num_beams)
    one_by_one = [loaded.family.generate(loaded.model, [e], decoding)[0] for e in examples]
    assert loaded.family.generate(loaded.model, examples, decoding) == one_by_one
    assert len(set(one_by_one)) > 1  # otherwise equality would say nothing


def test_a_conversation_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="one user turn"):
        loaded.family.tokenize([("user", "a"), ("assistant", "b"), ("user", "c")])
