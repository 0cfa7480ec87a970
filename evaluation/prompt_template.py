"""Templates of prompts: text with places for the question."""

import re
from functools import cache

QUESTION_NAMES = ("question", "query", "instruction")  # what a template may call it
_FIELD = re.compile(r"\{\{|\}\}|\{(" + "|".join(QUESTION_NAMES) + r")\}")


def filled(template: str, question: str) -> str:
    """Put the question in; `{{` and `}}` are braces. Nothing else has a meaning."""
    return question.join(around_question(template))


@cache
def around_question(template: str) -> list[str]:
    """Return the texts before, between and behind the places of the question."""
    texts, place = [""], 0
    for match in _FIELD.finditer(template):
        texts[-1] += template[place : match.start()]
        if match[1]:
            texts.append("")
        else:
            texts[-1] += match[0][0]
        place = match.end()
    texts[-1] += template[place:]
    return texts


def check_template(template: str | None) -> None:
    """Raise ValueError where a template, if one is given, holds other braces than {question}."""
    if re.search("[{}]", _FIELD.sub("", template or "")):
        raise ValueError(
            f"prompt_template may hold {{question}} and no other brace, got '{template}'."
        )
