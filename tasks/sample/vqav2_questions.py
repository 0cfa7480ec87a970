"""The questions of the sample VQA, with the answers that people might give beside the true one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from synthetic.scenes import CELLS, COLORS, NUMBERS, SHAPES, Scene
from tasks.sample.grammar import with_article

_SYNONYMS = {
    "red": "crimson",
    "green": "emerald",
    "blue": "navy",
    "yellow": "gold",
    "purple": "violet",
    "orange": "amber",
    "black": "dark",
    "cyan": "turquoise",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a scene; `others` are believable answers beside the true one."""

    text: str
    question_type: str  # an opening phrase of the official list
    answer_type: str
    answer: str
    others: tuple[str, ...]


Kind = Callable[[Scene, Random, bool], Question | None]


def _color(wording: str, question_type: str) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Question:
        cell = rng.choice(tuple(scene))
        shape = scene[cell]
        synonym = _SYNONYMS[shape.color]
        wrong = _other(shape.color, tuple(COLORS), rng)
        others = (synonym, synonym, synonym, str(shape), wrong)
        text = wording.format(cell=cell, kind=shape.kind)
        return Question(text, question_type, "other", shape.color, others)

    return ask


def _shape(wording: str, question_type: str) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Question:
        cell = rng.choice(tuple(scene))
        shape = scene[cell]
        wrong = _other(shape.kind, SHAPES, rng)
        others = (f"a {shape.kind}", f"a {shape.kind}", str(shape), f"the {shape}", wrong)
        return Question(wording.format(cell=cell), question_type, "other", shape.kind, others)

    return ask


def _content(wording: str, question_type: str) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Question:
        cell = rng.choice(tuple(scene))
        shape = scene[cell]
        synonym = f"{_SYNONYMS[shape.color]} {shape.kind}"
        article = with_article(str(shape))
        others = (article, article, synonym, shape.kind, "a shape")
        return Question(wording.format(cell=cell), question_type, "other", str(shape), others)

    return ask


def _count(wording: str) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Question:
        number = len(scene)
        near = [str(n) for n in (number - 1, number + 1) if n > 0]
        others = (NUMBERS[number], NUMBERS[number], rng.choice(near))
        return Question(wording, "how many", "number", str(number), others)

    return ask


def _is_there(scene: Scene, rng: Random, truth: bool) -> Question | None:
    cells = [cell for cell in CELLS if (cell in scene) == truth]
    if not cells:
        return None
    text = f"is there a shape in the {rng.choice(cells)}?"
    others = ("yes there is", "no") if truth else ("none", "no there is not", "yes")
    return _yes_no(text, "is there a", truth, others)


def _claim(wording: str, question_type: str, of_color: bool) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Question:
        cell = rng.choice(tuple(scene))
        shape = scene[cell]
        claim = shape.color if of_color else shape.kind
        if not truth:
            claim = _other(claim, tuple(COLORS) if of_color else SHAPES, rng)
        verb = "there is" if question_type == "is there a" else "it is"
        agreed = f"yes {verb}" if truth else f"no {verb} not"
        others = (agreed, agreed, "no" if truth else "yes")
        text = wording.format(cell=cell, claim=claim, article=with_article(claim))
        return _yes_no(text, question_type, truth, others)

    return ask


def _yes_no(text: str, question_type: str, truth: bool, others: tuple[str, ...]) -> Question:
    return Question(text, question_type, "yes/no", "yes" if truth else "no", others)


def _other(value: str, values: Sequence[str], rng: Random) -> str:
    return rng.choice([other for other in values if other != value])


# of 40 questions 22 are "other", 10 "yes/no" and 8 "number"
KINDS: tuple[Kind, ...] = (
    *[_color("what color is the shape in the {cell}?", "what color is the")] * 6,
    *[_color("what is the color of the {kind} in the {cell}?", "what is the color of the")] * 4,
    *[_shape("what shape is in the {cell}?", "what")] * 4,
    *[_shape("which shape is in the {cell}?", "which")] * 4,
    *[_content("what is in the {cell}?", "what is in the")] * 4,
    *[_is_there] * 3,
    *[_claim("is the shape in the {cell} {claim}?", "is the", of_color=True)] * 3,
    *[_claim("is there {article} shape in the {cell}?", "is there a", of_color=True)] * 2,
    *[_claim("is the shape in the {cell} a {claim}?", "is the", of_color=False)] * 2,
    *[_count("how many shapes are there?")] * 4,
    *[_count("how many shapes are in the picture?")] * 4,
)
