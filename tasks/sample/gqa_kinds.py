"""The frequency of each kind of GQA question, and the questions its answer settles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

from synthetic.scenes import CELLS, COLORS, SHAPES, Scene
from tasks.sample.gqa_questions import (
    RELATIONS,
    Question,
    choose,
    combine,
    compare,
    query_color,
    query_number,
    query_related,
    query_shape,
    verify,
    verify_exists,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the same in other words, and others whose answers follow from its own."""

    question: Question
    equivalent: tuple[Question, ...] = ()
    entailed: tuple[Question, ...] = ()


Kind = Callable[[Scene, Random, bool], Asked | None]


def _query_color(scene: Scene, rng: Random, truth: bool) -> Asked:
    cell = rng.choice(tuple(scene))
    color = scene[cell].color
    claims = (color, _other(color, rng))
    follows = (*(verify(scene, cell, c) for c in claims), verify_exists(scene, cell))
    return Asked(query_color(scene, cell), (query_color(scene, cell, reworded=True),), follows)


def _query_shape(scene: Scene, rng: Random, truth: bool) -> Asked:
    cell = rng.choice(tuple(scene))
    kind = scene[cell].kind
    follows = (verify(scene, cell, kind), verify_exists(scene, cell))
    return Asked(query_shape(scene, cell), (query_shape(scene, cell, reworded=True),), follows)


def _query_number(scene: Scene, rng: Random, truth: bool) -> Asked:
    full = tuple(verify_exists(scene, cell) for cell in CELLS) if len(scene) == 4 else ()
    return Asked(query_number(scene), (query_number(scene, reworded=True),), full)


def _query_related(scene: Scene, rng: Random, truth: bool) -> Asked | None:
    pairs = [pair for pair, cell in RELATIONS.items() if pair[0] in scene and cell in scene]
    if not pairs:
        return None
    pair = rng.choice(pairs)
    target = RELATIONS[pair]
    follows = (query_color(scene, target), verify_exists(scene, pair[0]))
    return Asked(query_related(scene, *pair), entailed=follows)


def _verify(of_color: bool) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Asked:
        cell = rng.choice(tuple(scene))
        right = scene[cell].color if of_color else scene[cell].kind
        question = verify(scene, cell, right if truth else _other(right, rng))
        query = query_color if of_color else query_shape
        follows = (query(scene, cell),) if truth else ()
        return Asked(question, entailed=(*follows, verify_exists(scene, cell)))

    return ask


def _verify_exists(scene: Scene, rng: Random, truth: bool) -> Asked | None:
    cells = [cell for cell in CELLS if (cell in scene) == truth]
    if not cells:
        return None
    cell = rng.choice(cells)
    return Asked(verify_exists(scene, cell), (verify_exists(scene, cell, reworded=True),))


def _choose(of_color: bool) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Asked:
        cell = rng.choice(tuple(scene))
        right = scene[cell].color if of_color else scene[cell].kind
        wrong = _other(right, rng)
        question = choose(scene, cell, (right, wrong) if truth else (wrong, right))
        turned = choose(scene, cell, (wrong, right) if truth else (right, wrong))
        query = (query_color if of_color else query_shape)(scene, cell)
        follows = (query, verify(scene, cell, right), verify(scene, cell, wrong))
        return Asked(question, (turned,), follows)

    return ask


def _combine(operation: str) -> Kind:
    def ask(scene: Scene, rng: Random, truth: bool) -> Asked | None:
        wanted = "yes" if truth else "no"
        questions = [(cells, combine(scene, cells, operation)) for cells in permutations(CELLS, 2)]
        fitting = [(cells, q) for cells, q in questions if q.answer == wanted]
        if not fitting:
            return None
        cells, question = rng.choice(fitting)
        turned = combine(scene, (cells[1], cells[0]), operation)
        # "yes" to an `and` and "no" to an `or` settle both halves, the other answers neither
        settled = truth == (operation == "and")
        follows = tuple(verify_exists(scene, cell) for cell in cells) if settled else ()
        return Asked(question, (turned,), follows)

    return ask


def _compare(word: str) -> Kind:
    opposite = "different" if word == "same" else "same"

    def ask(scene: Scene, rng: Random, truth: bool) -> Asked | None:
        if len(scene) < 2:
            return None
        first, second = rng.sample(tuple(scene), 2)
        question = compare(scene, (first, second), word)
        if question.answer != ("yes" if truth else "no"):
            return None
        turned = compare(scene, (second, first), word)
        follows = (compare(scene, (first, second), opposite), verify_exists(scene, first))
        return Asked(question, (turned,), follows)

    return ask


def _other(value: str, rng: Random) -> str:
    values: Sequence[str] = tuple(COLORS) if value in COLORS else SHAPES
    return rng.choice([other for other in values if other != value])


# percent of the questions: query 55, choose 15, verify 15, logical 7, compare 8
KINDS: tuple[Kind, ...] = (
    *[_query_color] * 25,
    *[_query_shape] * 20,
    *[_query_number] * 6,
    *[_query_related] * 4,
    *[_choose(of_color=True)] * 9,
    *[_choose(of_color=False)] * 6,
    *[_verify(of_color=True)] * 6,
    *[_verify(of_color=False)] * 4,
    *[_verify_exists] * 5,
    *[_combine("and")] * 4,
    *[_combine("or")] * 3,
    *[_compare("same")] * 5,
    *[_compare("different")] * 3,
)
