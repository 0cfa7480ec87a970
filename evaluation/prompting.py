"""An example and a template -> the conversation that a model is sent, within its text budget."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from evaluation.batch_encoding import encode_examples, naming
from evaluation.prompt_template import QUESTION_NAMES, around_question, check_template, filled
from models.base import Family
from models.chat_marks import Shape, shapes_of
from models.encoding import Encoded, Illustrated, Message, with_places
from models.registry import lineage
from tasks.base import Example, Task

logger = logging.getLogger(__name__)

_BATCH = 8192  # texts that are tokenised at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompter:
    """Joins a task's prompt with a model family's layout.

    Attributes:
        family: encodes the conversation.
        template: text with `{question}` in it, or without where the task asks nothing.
        max_length: most text tokens of one example, prompt and answer together with their layout.
        truncate: shorten prompts that are over; otherwise they are an error.
        system_message: said before the conversation.
    """

    family: Family
    template: str
    max_length: int
    truncate: bool = False
    system_message: str | None = None

    def __post_init__(self) -> None:
        check_template(self.template)
        if self.system_message is not None:  # a format without system turns says so
            self.family.tokenize([*self._opening, ("user", "")])

    @property
    def _opening(self) -> list[Message]:
        return [] if self.system_message is None else [("system", self.system_message)]

    @property
    def asks(self) -> bool:
        """Return True where the template has a place for a question."""
        return len(around_question(self.template)) > 1

    def prompt(self, example: Example) -> str:
        """Return the text sent for an example, before any truncation."""
        return filled(self.template, example.turns[-1].text)

    def sent(self, example: Example) -> str:
        """Return the last turn as it is sent, with `<image>` where an image stands inside it."""
        text = self.messages(example)[-1][1]
        if not isinstance(text, Illustrated):
            return text
        is_inside = self.family.takes_template and any(text.places)
        return "<image>".join(text.parts) if is_inside else text.without_images

    def messages(self, example: Example, answer: str | None = None) -> list[Message]:
        """Return the conversation, with the answer as last turn where one is given.

        Raises:
            ValueError: it is over the budget; names the example, its length and the options.
        """
        turns = self._turns(example, answer)
        if self.is_surely_short(turns):
            return turns
        length = self.num_tokens(turns)
        if length <= self.max_length:
            return turns
        if not self.truncate:
            raise ValueError(
                f"Example {example.example_id} has {length} text tokens, the budget is "
                f"{self.max_length}; raise --max_length, or cut long prompts with --truncate."
            )
        return self._shortened(example, turns)

    def encode(self, example: Example, answer: str | None = None) -> Encoded:
        """Encode an example as token ids and pixels; opens its images.

        Raises:
            ValueError: over the budget, or an image cannot be used; names the example.
        """
        return self.encode_all([example], [answer])[0]

    def encode_all(
        self, examples: Sequence[Example], answers: Sequence[str | None] | None = None
    ) -> list[Encoded]:
        """Encode examples in their order; those on the same images share their pixels.

        Args:
            examples: what is asked.
            answers: of each, to train on.

        Raises:
            ValueError: as `encode`.
        """
        given = [None] * len(examples) if answers is None else answers
        conversations = list(map(self.messages, examples, given))
        return encode_examples(self.family, examples, conversations)

    def num_tokens(self, turns: Sequence[Message]) -> int:
        """Count the text tokens of a conversation."""
        (length,) = self.family.count_tokens([turns])
        return length

    def over_budget(self, examples: Sequence[Example], *, with_answers: bool) -> Iterator[Example]:
        """Find the examples over the budget, in order; thousands are tokenised at once.

        Args:
            examples: what is asked; no image is opened.
            with_answers: each accepted answer counts too.

        Raises:
            ValueError: the family does not take an example's turns; names it.
        """
        taken: set[tuple[Shape, ...]] = set()
        for start in range(0, len(examples), _BATCH):
            unsure = []
            for example in examples[start : start + _BATCH]:
                turns, room = self._turns(example), 0
                is_usual = len(turns) == 1 and not example.further_images
                if not is_usual and (shapes := shapes_of(turns)[0]) not in taken:
                    self._check_turns(turns, example)
                    taken.add(shapes)
                if with_answers:
                    answers = map(str.encode, set(example.references))
                    longest = max(map(len, answers), default=0)
                    room = longest + self.family.num_turn_tokens
                if not self.is_surely_short(turns, room):
                    unsure.append((example, turns, room))
            # of those that do not pass by their bytes most do by the prompt's true length
            counts = self.family.count_tokens([turns for _, turns, _ in unsure])
            pairs = zip(unsure, counts, strict=True)
            over = [example for (example, _, room), n in pairs if n + room > self.max_length]
            yield from self._over_with_answers(over) if with_answers else over

    def _check_turns(self, turns: Sequence[Message], example: Example) -> None:
        """Raise ValueError where the family's layout has no place for such turns or images."""
        with naming(example):
            self.family.tokenize(turns)

    def _over_with_answers(self, examples: Sequence[Example]) -> list[Example]:
        answers = [sorted({answer.strip() for answer in e.references}) for e in examples]
        turns = [self._turns(e, a) for e, own in zip(examples, answers, strict=True) for a in own]
        counts = iter(self.family.count_tokens(turns))
        return [
            example
            for example, own in zip(examples, answers, strict=True)
            if max([next(counts) for _ in own], default=0) > self.max_length
        ]

    def input_lengths(self, examples: Sequence[Example]) -> list[int]:
        """Count all tokens that a model reads of each example; reads headers of images at most."""
        are_alike = type(self.family).count_image_tokens is Family.count_image_tokens
        images = [
            self.family.count_all_image_tokens(
                [(1, 1) if are_alike else image.dimensions() for image in example.images]
            )
            for example in examples
        ]
        texts = [
            num_tokens
            for start in range(0, len(examples), _BATCH)
            for num_tokens in self.family.count_tokens(
                [self._turns(example) for example in examples[start : start + _BATCH]]
            )
        ]
        return [
            min(num_tokens, self.max_length) + num_image_tokens
            for num_tokens, num_image_tokens in zip(texts, images, strict=True)
        ]

    def is_surely_short(self, turns: Sequence[Message], room: int = 0) -> bool:
        """Return True where the budget holds without counting: no token is shorter than a byte.

        Args:
            turns: the conversation.
            room: tokens that must be left over.
        """
        room += self.family.num_turn_tokens * len(turns) + self.family.num_layout_tokens
        return sum(len(text.encode()) for _, text in turns) + room <= self.max_length

    def _turns(self, example: Example, answer: str | None = None) -> list[Message]:
        *earlier, last = example.turns
        turns = self._opening + [(turn.role, _shown(turn.text, turn.places)) for turn in earlier]
        turns.append(("user", _shown(self.prompt(example), self._moved(last.places))))
        if example.further_images:
            turns = [*with_places(turns, len(example.images))]
        return turns if answer is None else [*turns, ("assistant", answer)]

    def _moved(self, places: Sequence[int]) -> Sequence[int]:
        """Return where images of a question stand in the prompt; before one that asks nothing."""
        if not places:
            return places
        before = len(around_question(self.template)[0])
        return [before + place if self.asks else 0 for place in places]

    def _shortened(self, example: Example, turns: list[Message]) -> list[Message]:
        """Keep the longest head of the question that fits; the answer stays whole."""
        question = example.turns[-1].text
        position = len(self._opening) + len(example.turns) - 1
        places = getattr(turns[position][1], "places", ())

        def with_head(length: int) -> list[Message]:
            turn = replace(example.turns[-1], text=question[:length])
            cut = self.prompt(replace(example, turns=(*example.turns[:-1], turn)))
            return [*turns[:position], ("user", _shown(cut, places)), *turns[position + 1 :]]

        least = max((0, *example.turns[-1].places))  # no image is cut off
        fits, too_long = least - 1, len(question)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self.num_tokens(with_head(middle)) <= self.max_length:
                fits = middle
            else:
                too_long = middle
        if fits < least:
            what = "its text up to the last image" if least else "its answer alone"
            raise ValueError(
                f"Example {example.example_id}: {what} is over the text budget of "
                f"{self.max_length} tokens, and {'images' if least else 'answers'} are never cut; "
                "raise --max_length."
            )
        return with_head(fits)


def make_prompter(
    task: Task,
    family: Family,
    template: str | None = None,
    max_length: int | None = None,
    truncate: bool = False,
    system_message: str | None = None,
) -> Prompter:
    r"""Make a prompter with the task's template and budget, unless others are given.

    `{query}` and `{instruction}` are other names of `{question}`, and `\n` as the two characters
    that a shell passes is a line break.
    """
    default = task.prompt(*lineage(type(family)))
    template = template and template.replace("\\n", "\n")
    names = tuple(f"{{{name}" for name in QUESTION_NAMES)
    if template and "{question}" in default and not any(name in template for name in names):
        raise ValueError(
            f"prompt_template '{template}' would leave out the question; write {{question}} where "
            f"it belongs, as in {task.name}'s own '{default}'."
        )
    if system_message and not family.takes_template:
        raise ValueError(
            f"A system message has no meaning for {family.name} models, which have no chat format; "
            "leave --system_message out."
        )
    return Prompter(
        family=family,
        template=default if template is None else template,
        max_length=max_length or task.max_length + family.num_layout_tokens,
        truncate=truncate,
        system_message=system_message,
    )


def _shown(text: str, places: Sequence[int]) -> str:
    return Illustrated(text, places) if places else text
