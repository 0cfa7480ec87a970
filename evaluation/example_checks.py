"""Checks of examples before a model is loaded for them: their images, their length."""

import logging
from collections.abc import Sequence

from evaluation.prompting import Prompter
from models.base import Family
from models.registry import several_take
from tasks.base import Example

logger = logging.getLogger(__name__)


def check_images(examples: Sequence[Example], family: Family) -> None:
    """Find images that the family cannot be shown, by their headers, before a model is loaded.

    Raises:
        ValueError: there is one, or an example has more than the family takes; names the example.
            Or a header cannot be read.
    """
    has_limits = type(family).check_dimensions is not Family.check_dimensions
    num_moved = 0
    for example in examples:
        if example.further_images and not family.takes_several_images:
            raise ValueError(_one_alone(example, f"a {family.name} model", several_take()))
        num_moved += any(any(turn.places) for turn in example.turns)
        try:
            for image in example.images if has_limits else ():
                family.check_dimensions(*image.dimensions())
        except ValueError as error:
            raise ValueError(f"Example {example.example_id}: {error}") from error
    if num_moved and not family.takes_template:
        logger.warning(
            "%d of %d examples have images inside a text: a %s model is shown them before it.",
            *(num_moved, len(examples), family.name),
        )


def check_clip(examples: Sequence[Example], clip_model: str | None) -> None:
    """Refuse examples of several images where CLIP is to compare each with its answer.

    Raises:
        ValueError: there is one; names the example.
    """
    for example in examples if clip_model is not None else ():
        if example.further_images:
            raise ValueError(_one_alone(example, "CLIPScore", "leave --clip_model out"))


def _one_alone(example: Example, what: str, remedy: str) -> str:
    number = len(example.images)
    return f"Example {example.example_id} has {number} images, and {what} takes one; {remedy}."


def check_texts(examples: Sequence[Example], prompter: Prompter, *, with_answers: bool) -> None:
    """Find examples over the text budget, before a model is loaded for them.

    Args:
        examples: what is asked; no image is opened.
        prompter: knows the budget.
        with_answers: count each accepted answer too, as training may take any of them.

    Raises:
        ValueError: one is, and nothing says to truncate; or an answer alone is.
    """
    num_cut = 0
    for example in prompter.over_budget(examples, with_answers=with_answers):
        answers = {answer.strip() for answer in example.references} if with_answers else {None}
        sent = [prompter.messages(example, answer) for answer in sorted(answers, key=str)]
        whole = prompter.prompt(example)
        num_cut += any(("user", whole) not in messages for messages in sent)
    if num_cut:
        logger.warning(
            "%d of %d prompts are cut to the budget of %d text tokens.",
            num_cut,
            len(examples),
            prompter.max_length,
        )
