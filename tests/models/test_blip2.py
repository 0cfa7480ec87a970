r"""BLIP-2's own: the text that goes on, the space before an answer, the line break that ends it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.blip2 import Blip2
from models.checkpoint import resolve
from models.encoding import Message
from models.loading import load_family
from models.registry import family_named
from models.settings import Decoding, FamilyOptions
from tests.models.examples import image
from tests.models.tiny_families.blip2 import make

# the question of the model's documentation
# (https://huggingface.co/docs/transformers/model_doc/blip-2)
QUESTION = "Question: how many cats are there? Answer:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("blip2")
    make(place)
    return place


@pytest.fixture(scope="module")
def family(folder: Path) -> Any:
    return load_family(resolve(str(folder)))


def texts(family: Any, *messages: Message) -> tuple[str, str]:
    """What is asked and what is learned."""
    encoded = family.encode(image(), messages)
    pairs = list(zip(encoded.input_ids, encoded.is_target, strict=True))
    asked = family.tokenizer.decode([id_ for id_, learned in pairs if not learned])
    return asked, family.tokenizer.decode([id_ for id_, learned in pairs if learned])


def test_four_query_tokens_stand_before_the_start_of_the_text(family: Any) -> None:
    asked, learned = texts(family, ("user", QUESTION), ("assistant", "two"))
    assert asked == "<image><image><image><image></s>" + QUESTION
    assert learned == " two\n"


@pytest.mark.parametrize("prompt", ["Answer: ", "Answer:\n", ""])
def test_an_answer_gets_no_second_space(family: Any, prompt: str) -> None:
    assert texts(family, ("user", prompt), ("assistant", "two"))[1] == "two\n"


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (32, 32), (640, 480), (20, 400)])
def test_ids_and_pixels_are_those_of_the_real_processor(family: Any, size: tuple[int, int]) -> None:
    from transformers import Blip2Processor

    processor = Blip2Processor(family.image_processor, family.tokenizer, num_query_tokens=4)
    real = processor(images=image(size), text=QUESTION, return_tensors="pt")
    batch = family.collate([family.encode(image(size), [("user", QUESTION)])])
    assert torch.equal(batch["input_ids"], real["input_ids"])
    assert torch.equal(batch["pixel_values"], real["pixel_values"])


def test_special_tokens_in_a_question_stay_text(family: Any) -> None:
    encoded = family.encode(image(), [("user", "what is <image> or </s>?")])
    tokenizer = family.tokenizer
    assert encoded.input_ids.count(tokenizer.convert_tokens_to_ids("<image>")) == 4
    assert encoded.input_ids.count(tokenizer.convert_tokens_to_ids("</s>")) == 1


def test_an_answer_ends_at_the_line_break_and_at_the_end_of_text(family: Any) -> None:
    line_break = family.tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert family.end_ids == [*line_break, family.tokenizer.convert_tokens_to_ids("</s>")]


def test_a_generated_answer_is_without_its_space_and_line_break(family: Any) -> None:
    answer = family.tokenizer(" two cats\n", add_special_tokens=False)["input_ids"]

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.cat([input_ids, torch.tensor([answer])], dim=1)

    model = SimpleNamespace(device="cpu", generate=generate)
    batch = [family.encode(image(), [("user", QUESTION)])]
    assert family.generate(model, batch, Decoding(max_new_tokens=4)) == ["two cats"]


def test_all_that_sees_and_the_output_layer_stay_unquantised(folder: Path, family: Any) -> None:
    model = load_family(resolve(str(folder))).empty_model
    parts = [name for name, _ in model.named_children() if name != "language_model"]
    assert parts == list(family.unquantized_modules[:-1])
    assert model.get_submodule(family.unquantized_modules[-1]) is model.get_output_embeddings()


def test_checkpoints_with_t5_are_refused(tmp_path: Path) -> None:
    from transformers import Blip2Config

    Blip2Config(text_config={"model_type": "t5"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"encoder-decoder \(t5\).*Salesforce/blip2-opt-2\.7b"):
        load_family(resolve(str(tmp_path)))


def test_checkpoints_from_before_the_image_token_are_refused(tmp_path: Path) -> None:
    from transformers import Blip2Config

    Blip2Config(text_config={"model_type": "opt"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no image_token_index.*newer revision"):
        load_family(resolve(str(tmp_path)))


def test_a_conversation_is_refused(family: Any) -> None:
    turns = [("user", "what?"), ("assistant", "two"), ("user", "and now?")]
    with pytest.raises(ValueError, match="one user turn and at most one answer"):
        family.encode(image(), turns)


def test_an_image_size_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="--image_size has no meaning for blip2 models"):
        Blip2(str(folder), options=FamilyOptions(image_size=448))


@pytest.mark.parametrize("name", ["blip2", "blip-2", "BLIP_2"])
def test_it_is_known_by_each_of_its_names(name: str) -> None:
    assert family_named(name) is Blip2
