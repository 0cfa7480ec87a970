"""Checks of examples before a model is loaded for them: their images, their length."""

import logging
from collections.abc import Sequence

from evaluation.prompting import Prompter
from models.base import Family
from tasks.base import Example

logger = logging.getLogger(__name__)


def check_images(examples: Sequence[Example], family: Family) -> None:
    """Find images that the family cannot be shown, by their headers, before a model is loaded.

    Raises:
        ValueError: there is one; names the example. Or a header cannot be read.
    """
    if type(family).check_dimensions is Family.check_dimensions:
        return
    for example in examples:
        try:
            family.check_dimensions(*example.image.dimensions())
        except ValueError as error:
            raise ValueError(f"Example {example.example_id}: {error}") from error


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
