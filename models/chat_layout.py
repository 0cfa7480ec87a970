"""A chat template, read: where it writes texts, images and ends, for any shape of conversation.

It is rendered with marks in place of the texts, so that what a user or a model wrote is told from
the layout.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

from models.chat_marks import MARK, Shape, mark_of, marked_turns
from models.template_limits import TemplateFault, render

logger = logging.getLogger(__name__)

_BLANK = "\N{EM SPACE}"  # white space that no template writes by itself
_QUESTION = Shape("user", "it")
_ANSWER = Shape("assistant", "t")


class ChatLayout:
    """A template with what it makes of conversations; each shape is rendered once.

    Args:
        template: Jinja text.
        location: of the checkpoint, for messages.
        image_token: what the template writes for an image.
        tokenizer: names the special tokens.
    """

    def __init__(self, template: str, location: str, image_token: str, tokenizer: Any) -> None:
        self.template = template
        self.location = location
        self.image_token = image_token
        self.tokenizer = tokenizer
        self._parts: dict[tuple[Shape, ...], list[tuple[str, bool]]] = {}
        self._cuts: dict[Shape, list[tuple[bool, bool]]] = {}
        self._all_cuts: dict[tuple[Shape, ...], list[tuple[bool, bool]]] = {}
        self._moves_images = False

    def parts(self, shapes: tuple[Shape, ...]) -> list[tuple[str, bool]]:
        """Return the rendered conversation in parts, and whether each is learned.

        Raises:
            ValueError: the template does not take these turns, does not write each image and text
                once and in order, or lays out an answer otherwise than it asks for one.
        """
        if shapes not in self._parts:
            parts = self._new_parts(shapes)
            self._check_images(shapes, "".join(text for text, _ in parts))
            self._parts[shapes] = parts
        return self._parts[shapes]

    def _check_images(self, shapes: Sequence[Shape], rendered: str) -> None:
        """Refuse other images than are shown, and warn of those that are moved."""
        wanted = "".join(shape.order for shape in shapes)
        found, number = rendered.count(self.image_token), wanted.count("i")
        if found != number:
            shown, each = ("one image", "") if number == 1 else (f"{number} images", " for each")
            raise ValueError(
                f"The chat template of {self.location} writes {self.image_token} {found} "
                f"times in a conversation with {shown}; give one that writes it once{each} by "
                "--chat_template."
            )
        marked = MARK.sub("\ue000", rendered).replace(self.image_token, "\ue001")
        order = "".join("ti"[sign == "\ue001"] for sign in marked if sign in "\ue000\ue001")
        if order != wanted and number > 1 and not self._moves_images:
            self._moves_images = True
            logger.warning(
                "The chat template of %s writes the images of a turn elsewhere than between its "
                "texts, so the model does not see where they stand; give another by "
                "--chat_template to keep their places.",
                self.location,
            )

    def as_written(self, shapes: tuple[Shape, ...], texts: Sequence[str]) -> list[str]:
        """Return the texts as the template writes them: some cut the white space at their ends."""
        if shapes not in self._all_cuts:
            self._all_cuts[shapes] = [cut for shape in shapes for cut in self._cuts_of(shape)]
        written = []
        for text, (cuts_start, cuts_end) in zip(texts, self._all_cuts[shapes], strict=True):
            text = text.lstrip() if cuts_start else text
            written.append(text.rstrip() if cuts_end else text)
        return written

    def _cuts_of(self, shape: Shape) -> list[tuple[bool, bool]]:
        """Return of each text of a turn whether the white space before and behind it is cut."""
        if shape.role == "user" and "i" not in shape.order:
            shape = _QUESTION
        if shape not in self._cuts:
            self._cuts[shape] = self._new_cuts(shape)
        return self._cuts[shape]

    def _new_cuts(self, shape: Shape) -> list[tuple[bool, bool]]:
        talk = {
            "system": (shape, _QUESTION),
            "user": (shape, _ANSWER),
            "assistant": (_QUESTION, shape),
        }[shape.role]
        try:
            written = self._write(talk, self._takes_parts, blank=_BLANK)
        except TemplateFault:
            return [(False, False)] * shape.num_texts  # not every template takes a system's turn
        first = sum(other.num_texts for other in talk[: talk.index(shape)])
        around = [
            written.partition(mark_of(index)) for index in range(first, first + shape.num_texts)
        ]
        return [
            (not before.endswith(_BLANK), not behind.startswith(_BLANK))
            for before, _, behind in around
        ]

    def _new_parts(self, shapes: tuple[Shape, ...]) -> list[tuple[str, bool]]:
        rendered = self._render(shapes)
        marks = list(MARK.finditer(rendered))
        firsts = list(accumulate((shape.num_texts for shape in shapes), initial=0))
        if [int(mark[1]) for mark in marks] != list(range(firsts[-1])):
            what = f"the turns {_roles(shapes)}"
            if any(shape.num_texts > 1 for shape in shapes):
                what = "the texts between the images of a turn"
            raise ValueError(
                f"The chat template of {self.location} does not write {what} each once and in "
                "order; give one that does by --chat_template."
            )
        parts: list[tuple[str, bool]] = []
        position = 0
        for index, shape in enumerate(shapes):
            if shape.role != "assistant":
                continue
            mark = marks[firsts[index]]
            asked, before = self._render(shapes[:index]), rendered[: mark.start()]
            if before.rstrip() == asked.rstrip():  # asked is how a model will be asked
                layout = before.rstrip() + asked[len(asked.rstrip()) :]
                gap = " " if before == asked + " " else ""  # belongs to the answer's first word
            elif before.startswith(asked):  # the assistant's turn starts with more than a name
                layout, gap = asked, before[len(asked) :]
            else:
                raise ValueError(
                    f"The chat template of {self.location} asks for an answer by "
                    f"{asked[-40:]!r} and writes one after {before[-40:]!r}: a model trained on "
                    "the one is not asked that way; give another by --chat_template."
                )
            parts += [(layout[position:], False), (gap + mark[0] + self.end, True)]
            rest = rendered[mark.end() :].lstrip().removeprefix(self.end)
            position = len(rendered) - len(rest)
        is_answered = shapes[-1].role == "assistant"
        return parts if is_answered else [*parts, (rendered[position:], False)]

    @cached_property
    def end(self) -> str:
        """Return the token behind an answer; the tokenizer's where the template writes none.

        A model must learn to stop.
        """
        answered = self._render((_QUESTION, _ANSWER))
        behind = answered.rpartition(mark_of(1))[2].lstrip()
        tokens = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        tokens -= {self.image_token, self.tokenizer.bos_token}
        ends = (token for token in tokens if behind.startswith(token))
        return max(ends, key=len, default=str(self.tokenizer.eos_token))

    def _render(self, shapes: tuple[Shape, ...]) -> str:
        """The conversation with marks for texts; asks for an answer where the last is not one."""
        if [shape.role for shape in shapes if shape.role != "system"][:1] != ["user"]:
            raise ValueError(
                "The first turn of a conversation, but for the system's, must be the user's, got "
                f"turns {_roles(shapes)}."
            )
        try:
            return self._write(shapes, self._takes_parts)
        except TemplateFault as error:
            raise ValueError(
                f"The chat template of {self.location} does not take the turns "
                f"{_roles(shapes)} ({error}); give another by --chat_template."
            ) from error

    @cached_property
    def _takes_parts(self) -> bool:
        """Return True where contents are lists of parts; a language model's template takes text."""
        return self._is_fit(as_parts=True) or not self._is_fit(as_parts=False)

    def _is_fit(self, as_parts: bool) -> bool:
        try:
            written = self._write((_QUESTION,), as_parts)
        except TemplateFault:
            return False
        return self.image_token in written

    def _write(self, shapes: Sequence[Shape], as_parts: bool, blank: str = "") -> str:
        turns = marked_turns(shapes, None if as_parts else self.image_token, blank)
        tokens = self.tokenizer.special_tokens_map
        return render(self.template, turns, shapes[-1].role != "assistant", tokens)


def _roles(shapes: Sequence[Shape]) -> str:
    return ", ".join(shape.role for shape in shapes)
