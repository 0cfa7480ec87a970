"""Balanced questions about pictures, none of which is held out and trained on."""

from collections.abc import Callable, Collection, Hashable, Sequence
from random import Random
from typing import Generic, TypeVar

from synthetic.scenes import Scene, random_scene

NUM_TRAIN = 3000
NUM_HELD_OUT = 300

T = TypeVar("T")
C = TypeVar("C")  # content of a picture
Q = TypeVar("Q")  # question about it

Draw = Callable[[Random], C]
# (content, rng, truth) -> a question; None where the content does not allow it. `truth` balances
# the answers of each kind: it is true for every second question.
Kind = Callable[[C, Random, bool], Q | None]
Asked = list[tuple[C, list[Q]]]


class Deck(Generic[T]):
    """Shuffled cards, dealt anew when all are drawn: each comes equally often."""

    def __init__(self, cards: Sequence[T], rng: Random) -> None:
        self._cards = cards
        self._rng = rng
        self._left: list[T] = []

    def draw(self) -> T:
        """Take a card."""
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
        return self._left.pop()


def ask_all(
    draw: Draw[C], kinds: Sequence[Kind[C, Q]], num_questions: int, rng: Random, repeat: float
) -> Asked[C, Q]:
    """Ask questions about drawn contents.

    Args:
        draw: makes the content of a new picture.
        kinds: one is dealt per question; what comes twice is asked twice as often.
        num_questions: over all pictures.
        rng: source of every choice.
        repeat: how often a question is about the previous picture.
    """
    deck = Deck(kinds, rng)
    truths = {kind: Deck((True, False), rng) for kind in kinds}
    asked: Asked[C, Q] = []
    for _ in range(num_questions):
        kind = deck.draw()
        truth = truths[kind].draw()
        if asked and rng.random() < repeat:
            content, questions = asked[-1]
            question = kind(content, rng, truth)
            if question is not None and question not in questions:
                questions.append(question)
                continue
        question = None
        while question is None:
            content = draw(rng)
            question = kind(content, rng, truth)
        asked.append((content, [question]))
    return asked


def ask_splits(
    name: str,
    draw: Callable[[Random, Collection[Hashable]], C],
    key: Callable[[C], Hashable],
    kinds: Sequence[Kind[C, Q]],
    repeat: float,
) -> tuple[Asked[C, Q], Asked[C, Q]]:
    """Ask about training pictures and about held-out ones; no content is in both.

    Args:
        name: of the task; a part of the seeds.
        draw: (rng, contents to avoid) -> content.
        key: what contents are told apart by.
        kinds: as in `ask_all`.
        repeat: as in `ask_all`.
    """
    rng = Random(f"{name}/held_out")
    held_out = ask_all(lambda rng: draw(rng, ()), kinds, NUM_HELD_OUT, rng, repeat)
    avoided = {key(content) for content, _ in held_out}
    rng = Random(f"{name}/train")
    train = ask_all(lambda rng: draw(rng, avoided), kinds, NUM_TRAIN, rng, repeat)
    return train, held_out


def scene_key(scene: Scene) -> Hashable:
    """Return the content of a scene, for comparison."""
    return tuple(scene.items())


def draw_scene(rng: Random, avoided: Collection[Hashable]) -> Scene:
    """Draw a scene that is not avoided; one to four shapes equally often, whatever is avoided."""
    num_shapes = rng.randint(1, 4)
    while True:
        scene = random_scene(rng, num_shapes)
        if scene_key(scene) not in avoided:
            return scene
