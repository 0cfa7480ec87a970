"""The classes that load the model, and the messages that it is sent."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.prompting import make_prompter
from experiments.pipeline_config import (
    check_processor,
)
from models.checkpoint import resolve
from models.loading import load_family, load_model
from models.settings import FamilyOptions
from tasks.base import Example, Turn
from tasks.images import ArrayImage
from tasks.registry import get_task
from tests.helpers import one_sentence
from tests.models.tiny_families import maker


def checkpoint(folder: Path, name: str | None = None) -> Any:
    return resolve(str(folder), options=FamilyOptions(model_class=name))


def test_the_named_class_loads_the_model(pico1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    name = "PaliGemmaForConditionalGeneration"
    wanted = getattr(transformers, name)
    assert load_family(checkpoint(pico1)).model_class is transformers.AutoModelForImageTextToText
    monkeypatch.setattr(transformers, "AutoModelForImageTextToText", None)
    assert load_family(checkpoint(pico1, name)).model_class is wanted
    loaded = load_model(checkpoint(pico1, name), quantization="none", device="cpu")
    assert type(loaded.model) is wanted


@pytest.mark.parametrize(
    "name",
    [
        "PaliGemmaForConditionalGeneratio",  # no such class
        "LlavaForConditionalGeneration",  # of other models
        "AutoModelForCausalLM",  # an Auto class that does not know them
        "AutoModel",  # cannot write
        "GenerationConfig",  # no model
        "os",  # no class
    ],
)
def test_a_class_that_cannot_load_the_model_to_write_is_refused(pico1: Path, name: str) -> None:
    with one_sentence(f"model_class {name}", "(type paligemma)", "AutoModelForImageTextToText"):
        _ = load_family(checkpoint(pico1, name)).model_class


def test_the_processor_must_be_the_checkpoint_s_own_or_auto(pico1: Path) -> None:
    for name in (None, "AutoProcessor", "PaliGemmaProcessor"):
        check_processor(name, checkpoint(pico1))
    for name in ("LlavaProcessor", "PaliGemmaProcesor"):
        with one_sentence(f"processor_class {name}", "name PaliGemmaProcessor or AutoProcessor"):
            check_processor(name, checkpoint(pico1))


def question(text: str) -> Example:
    turns = (Turn("user", text),)
    return Example(example_id=1, image=ArrayImage(None, "none"), turns=turns, references=("x",))


def test_the_system_message_stands_before_the_question(tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path)
    family = load_family(resolve(str(tmp_path)))
    prompter = make_prompter(get_task("image_qa"), family, system_message="Be brief.")
    start = [("system", "Be brief."), ("user", "what?")]
    assert prompter.messages(question("what?")) == start
    assert prompter.messages(question("what?"), "x") == [*start, ("assistant", "x")]
    text = " ".join(["word"] * 300)
    length = prompter.num_tokens([("system", "Be brief."), ("user", "word " * 40)])
    short = make_prompter(
        get_task("image_qa"), family, None, length, truncate=True, system_message="Be brief."
    )
    (system, (role, cut)) = short.messages(question(text))
    assert (system, role) == (start[0], "user")
    assert 0 < len(cut) < len(text) and text.startswith(cut)


def test_a_model_without_system_turns_refuses_a_system_message(pico1: Path) -> None:
    family = load_family(resolve(str(pico1)))
    with pytest.raises(ValueError, match="A system message has no meaning for paligemma"):
        make_prompter(get_task("image_qa"), family, system_message="Be brief.")
