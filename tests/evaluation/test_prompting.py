"""The prompt sent and its text budget."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from evaluation.prompt_template import check_template
from evaluation.prompting import Prompter, make_prompter
from models.checkpoint import resolve
from models.loading import load_family
from tasks.base import Example, Turn
from tasks.images import ArrayImage, FileImage
from tasks.registry import get_task
from tests.helpers import one_sentence
from tests.models.tiny_families import maker


@pytest.fixture(scope="module")
def prompter(pico1: Path) -> Prompter:
    return make_prompter(get_task("vqav2"), load_family(resolve(str(pico1))))


def ask(question: str) -> Example:
    return Example(
        example_id=17,
        image=ArrayImage(None, "none"),
        turns=(Turn("user", question),),
        references=("yes",),
    )


@pytest.mark.parametrize(
    ("task", "question", "prompt"),
    [
        ("coco_captioning", "", "caption en"),
        ("vqav2", "is it red?", "answer en is it red?"),
        ("gqa", "is it red?", "answer en is it red?"),
        ("docvqa", "what is the ID?", "what is the ID?"),
    ],
)
def test_prompts_are_those_of_the_published_transfers(
    pico1: Path, task: str, question: str, prompt: str
) -> None:
    made = make_prompter(get_task(task), load_family(resolve(str(pico1))))
    assert made.messages(ask(question), "a") == [("user", prompt), ("assistant", "a")]


@pytest.mark.parametrize(("task", "budget"), [("vqav2", 64), ("docvqa", 256)])
def test_the_budget_is_the_tasks(pico1: Path, task: str, budget: int) -> None:
    assert make_prompter(get_task(task), load_family(resolve(str(pico1)))).max_length == budget


def test_braces_in_a_question_stay_text(prompter: Prompter) -> None:
    assert prompter.prompt(ask("what is {this} {0}?")) == "answer en what is {this} {0}?"


@pytest.mark.parametrize("template", ["{answer}", "{}", "{question", "{question.x}"])
def test_a_template_with_another_brace_is_refused(prompter: Prompter, template: str) -> None:
    with pytest.raises(ValueError, match="prompt_template may hold"):
        replace(prompter, template=template)


def test_the_budget_counts_prompt_and_answer_with_their_special_tokens(prompter: Prompter) -> None:
    # <bos> answer en red * n \n | red * 4 <eos>: 4 + n + 5 tokens, so 55 words are the most
    fits, over = ask(" ".join(["red"] * 55)), ask(" ".join(["red"] * 56))
    answer = "red red red red"
    assert prompter.num_tokens(prompter.messages(fits, answer)) == 64
    with pytest.raises(ValueError, match="Example 17 has 65 text tokens, the budget is 64"):
        prompter.messages(over, answer)


def test_truncation_cuts_the_question_and_never_the_answer(prompter: Prompter) -> None:
    cutting = replace(prompter, truncate=True)
    answer = "red red red red"
    messages = cutting.messages(ask(" ".join(["red"] * 90)), answer)
    assert messages[1] == ("assistant", answer)
    assert cutting.num_tokens(messages) == 64
    assert messages[0][1].startswith("answer en red red")
    with pytest.raises(ValueError, match="its answer alone is over"):
        cutting.messages(ask("what?"), " ".join(["red"] * 80))


def test_image_tokens_do_not_count_and_are_never_cut(pico1: Path) -> None:
    from PIL import Image

    family = load_family(resolve(str(pico1)))
    encoded = family.encode(Image.new("RGB", (9, 9)), [("user", "red"), ("assistant", "no")])
    assert encoded.num_image_tokens == 16
    assert len(encoded.input_ids) == 16 + 5  # <bos> red \n no <eos>
    assert encoded.input_ids[:16] == [family.processor.image_token_id] * 16


def test_the_example_of_an_image_that_cannot_be_used_is_named(
    prompter: Prompter, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    example = replace_fields(ask("what?"), image=FileImage(str(tmp_path / "a.png")))
    with pytest.raises(ValueError) as error:
        prompter.encode(example)
    assert str(error.value) == (
        f"{tmp_path}/a.png is not an image in a known format; convert it, or remove what asks "
        "about it (example 17)."
    )


def test_the_example_of_an_image_that_a_family_refuses_is_named(tmp_path: Path) -> None:
    maker("qwen2_vl")(tmp_path)
    made = make_prompter(get_task("vqav2"), load_family(resolve(str(tmp_path))))
    thin = ArrayImage(np.zeros((2000, 5), np.uint8), "thin")
    with pytest.raises(ValueError, match=r"5 x 2000 pixels .* --image_size \(example 17\)\.$"):
        made.encode(replace_fields(ask("what?"), image=thin))


@pytest.mark.parametrize("name", ["question", "query", "instruction"])
def test_the_question_has_three_names_and_a_shells_line_break_is_one(
    prompter: Prompter, name: str
) -> None:
    # as the shell passes "Question: {query}\nAnswer:", with two characters for the line break
    made = make_prompter(get_task("vqav2"), prompter.family, f"Question: {{{name}}}\\nAnswer:")
    example = Example(example_id=1, image=None, turns=(Turn("user", "what is it?"),), references=())  # type: ignore[arg-type]
    assert made.prompt(example) == "Question: what is it?\nAnswer:"


def test_earlier_turns_count_for_the_budget(tmp_path: Path) -> None:
    maker("llava")(tmp_path)
    family = load_family(resolve(str(tmp_path)))
    made = make_prompter(get_task("frames_chat"), family, max_length=64)
    turns = (Turn("user", "how? " * 40), Turn("assistant", "so."), Turn("user", "why?"))
    example = Example(example_id=1, image=None, turns=turns, references=("so.",))  # type: ignore[arg-type]
    assert list(made.over_budget([example], with_answers=True)) == [example]
    with pytest.raises(ValueError, match=r"Example 1 has .* text tokens, the budget is 64"):
        made.messages(example, "so.")


@pytest.mark.parametrize(
    "template",
    [
        "{question.__class__}",
        "{question[0]}",
        "{question:>999999999}",
        "{question!r}",
        "{question} {",
        "{}",
        "{answer}",
    ],
)
def test_a_template_is_plain_replacement(template: str) -> None:
    with one_sentence("prompt_template may hold {question} and no other brace"):
        check_template(template)


def test_braces_of_a_question_are_text(prompter: Prompter) -> None:
    braced = replace(prompter, template="{{a}} {query} {question}")
    assert braced.prompt(ask("{question} {{")) == "{a} {question} {{ {question} {{"
