"""Families whose conversations are laid out by a chat template (Jinja, as transformers reads it).

The template that the user gives counts, else the checkpoint's own, else the family's. It is
rendered with marks in place of the texts, so that what a user or a model wrote is told from the
layout: no text is obeyed as a special token, and exactly the assistant's words and the token that
ends them are learned.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from models.base import PICTURE, Family, Message

_MARK = re.compile("\ue000(\\d+)\ue001")  # private-use characters, which no template touches


class _Piece(NamedTuple):
    text: str
    is_layout: bool  # the template's, in which special tokens are special


class ChatFamily(Family):
    """A family with a chat template; the language model of a checkpoint may be any."""

    chat_template: ClassVar[str]  # for checkpoints without one

    @cached_property
    def template(self) -> str:
        """The template in force."""
        return self.options.chat_template or self._own_template() or self.chat_template

    def _own_template(self) -> str | None:
        """The checkpoint's: its processor's, in the file of its own that older ones have."""
        from transformers.utils import cached_file

        path = cached_file(
            self.saved or self.location,
            "chat_template.json",
            revision=self.revision if self.saved is None else None,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            with open(path, encoding="utf-8") as file:
                return str(json.load(file)["chat_template"])
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else None

    def save(self, folder: str) -> None:
        """Write tokenizer and image processor, and the template in force."""
        self.tokenizer.chat_template = self.template
        super().save(folder)

    @cached_property
    def image_token_id(self) -> int:
        """The token that a template writes once where the picture goes."""
        return int(self.config.image_token_id)

    @cached_property
    def image_token(self) -> str:
        """The same as text."""
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id))

    @cached_property
    def num_layout_tokens(self) -> int:
        """Tokens of the layout of one question: system prompt, role names."""
        return len(self.tokenize([("user", "")])[0]) - 1

    @cached_property
    def end_ids(self) -> list[int]:
        """The token that ends the assistant's turn, then the tokenizer's own end."""
        ids, _ = self.tokenize([("user", ""), ("assistant", "")])
        return list(dict.fromkeys([ids[-1], self.tokenizer.eos_token_id]))

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Token ids in the template's layout; see `Family.tokenize`.

        Raises:
            ValueError: the template does not take these turns, writes no place for the picture,
                or lays out an answer otherwise than it asks for one.
        """
        done: list[_Piece] = []
        ids: list[int] = []
        is_target: list[bool] = []
        for text, is_learned in self._parts(messages):
            pieces = _pieces(text, messages)
            done += pieces
            whole = self._ids(done)
            # Where the tokens before would come out otherwise with the rest in view, the rest is
            # tokenised by itself: what is learned must follow the very tokens that are asked with.
            new = whole[len(ids) :] if whole[: len(ids)] == ids else self._ids(pieces)
            ids += new
            is_target += [is_learned] * len(new)
        if ids.count(self.image_token_id) != 1:
            raise ValueError(
                f"The chat template of {self.location} writes {self.image_token} "
                f"{ids.count(self.image_token_id)} times in a conversation with one picture; give "
                "one that writes it once by --chat_template."
            )
        ids[ids.index(self.image_token_id)] = PICTURE
        start = self._start_ids(done[0].text)
        return start + ids, [False] * len(start) + is_target

    def _start_ids(self, text: str) -> list[int]:
        """The token that the tokenizer starts texts with, where the template does not write it."""
        bos = self.tokenizer.bos_token
        if bos is None or text.startswith(bos):
            return []
        bos_id = self.tokenizer.bos_token_id
        return [bos_id] if self.tokenizer("")["input_ids"][:1] == [bos_id] else []

    def _ids(self, pieces: Sequence[_Piece]) -> list[int]:
        written = "".join(piece.text for piece in pieces if not piece.is_layout)
        if not any(token in written for token in self.tokenizer.all_special_tokens):
            return self._tokens("".join(piece.text for piece in pieces), is_layout=True)
        return [id_ for piece in pieces for id_ in self._tokens(*piece)]

    def _tokens(self, text: str, is_layout: bool) -> list[int]:
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=not is_layout
        )
        return list(encoding["input_ids"])

    def _parts(self, messages: Sequence[Message]) -> Iterator[tuple[str, bool]]:
        """The rendered conversation in parts, and whether each is learned."""
        rendered = self._render(messages)
        marks = list(_MARK.finditer(rendered))
        if [int(mark[1]) for mark in marks] != list(range(len(messages))):
            raise ValueError(
                f"The chat template of {self.location} does not write the turns "
                f"{', '.join(role for role, _ in messages)} each once and in order; give one that "
                "does by --chat_template."
            )
        position = 0
        for index, (mark, (role, _)) in enumerate(zip(marks, messages, strict=True)):
            if role != "assistant":
                continue
            asked = self._render(messages[:index])
            start = len(asked) if rendered.startswith(asked) else mark.start()
            if rendered[:start].rstrip() != asked.rstrip():
                raise ValueError(
                    f"The chat template of {self.location} asks for an answer by "
                    f"{asked[-40:]!r} and writes one after {rendered[:start][-40:]!r}: a model "
                    "trained on the one is not asked that way; give another by --chat_template."
                )
            end, end_position = self._end_of_turn(rendered, mark.end())
            yield rendered[position:start], False
            yield rendered[start : mark.end()] + end, True
            position = end_position
        if messages[-1][0] != "assistant":
            yield rendered[position:], False

    def _end_of_turn(self, rendered: str, position: int) -> tuple[str, int]:
        """The special token after an answer and where the text goes on behind it.

        A template that writes none gets the tokenizer's: a model must learn to stop.
        """
        rest = rendered[position:]
        gap = len(rest) - len(rest.lstrip())
        tokens = set(self.tokenizer.all_special_tokens)
        tokens -= {self.image_token, self.tokenizer.bos_token}
        end = max((token for token in tokens if rest.startswith(token, gap)), key=len, default="")
        return end or self.tokenizer.eos_token, position + gap + len(end)

    def _render(self, messages: Sequence[Message]) -> str:
        """The conversation with marks for texts; asks for an answer where the last is not one."""
        from jinja2 import TemplateError

        first = next(i for i, (role, _) in enumerate(messages) if role == "user")

        def conversation(as_parts: bool) -> list[dict[str, Any]]:
            turns: list[dict[str, Any]] = []
            for index, (role, _) in enumerate(messages):
                mark = f"\ue000{index}\ue001"
                picture = [{"type": "image"}] if index == first else []
                parts = [*picture, {"type": "text", "text": mark}]
                text = f"{self.image_token}\n{mark}" if index == first else mark
                turns.append({"role": role, "content": parts if as_parts else text})
            return turns

        def render(as_parts: bool) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    conversation(as_parts),
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=messages[-1][0] != "assistant",
                )
            )

        try:
            try:
                rendered = render(as_parts=True)
            except (TemplateError, TypeError):
                return render(as_parts=False)
            # a template of a language model alone writes the list of parts as Python shows it
            return rendered if "'type':" not in rendered else render(as_parts=False)
        except (TemplateError, TypeError) as error:
            raise ValueError(
                f"The chat template of {self.location} does not take the turns "
                f"{', '.join(role for role, _ in messages)} ({error}); give another by "
                "--chat_template."
            ) from error


def _pieces(text: str, messages: Sequence[Message]) -> list[_Piece]:
    """Rendered text with each mark replaced by what it stands for."""
    pieces = [
        _Piece(messages[int(part)][1], False) if index % 2 else _Piece(part, True)
        for index, part in enumerate(_MARK.split(text))
    ]
    return [piece for piece in pieces if piece.text]
