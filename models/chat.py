"""Families whose conversations are laid out by a chat template (Jinja, as transformers reads it).

The template that the user gives counts, else the checkpoint's own, else the family's. It is
rendered with marks in place of the texts, so that what a user or a model wrote is told from the
layout: no text is obeyed as a special token, and exactly the assistant's words and the token that
ends them are learned.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from models.base import Family
from models.chat_marks import MARK, Piece, mark_of, marked_turns, parted, pieces_of
from models.encoding import IMAGE_PLACEHOLDER, Message
from models.processor_files import processor_template
from models.template_limits import TemplateFault, render
from models.text_tokens import count_growing, encode_text

if TYPE_CHECKING:
    import torch

_BLANK = "\N{EM SPACE}"  # white space that no template writes by itself
_ANYTHING = "\ue000"  # a text that no token joins with what follows


class ChatFamily(Family):
    """A family with a chat template; the language model of a checkpoint may be any."""

    takes_template = True
    chat_template: ClassVar[str]  # for checkpoints without one

    def _check(self) -> None:
        given = self.options.chat_template
        if given is not None and not given.strip():
            raise ValueError(
                "--chat_template is blank, and a template in Jinja is expected; fill its file, or "
                "leave the option out for the checkpoint's own."
            )

    @cached_property
    def template(self) -> str:
        """Return the template in force."""
        return self.options.chat_template or self._own_template() or self.chat_template

    def _own_template(self) -> str | None:
        """The checkpoint's: its processor's, in whichever file it lies, or its tokenizer's."""
        place, revision = (self.saved, None) if self.saved else (self.location, self.revision)
        template = processor_template(place, revision) or self.tokenizer.chat_template
        return template.get("default") if isinstance(template, dict) else template

    def save(self, folder: str) -> None:
        """Write tokenizer and image processor, and the template in force."""
        self.tokenizer.chat_template = self.template
        super().save(folder)

    @cached_property
    def image_token_id(self) -> int:
        """Return the token that a template writes once where the image goes."""
        return int(self.config.image_token_id)

    @cached_property
    def image_token(self) -> str:
        """Return the same as text."""
        token = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        if token is None:
            raise ValueError(
                f"The config.json of {self.location} has token {self.image_token_id} for the image "
                f"and its tokenizer has {len(self.tokenizer)} tokens; take both from one model."
            )
        return str(token)

    @cached_property
    def num_layout_tokens(self) -> int:
        """Return the tokens of the layout of one question: system prompt, role names."""
        return len(self.tokenize([("user", "")])[0]) - 1

    @cached_property
    def end_ids(self) -> list[int]:
        """Return the token that ends the assistant's turn, then the tokenizer's own end."""
        ids, _ = self.tokenize([("user", ""), ("assistant", "")])
        return list(dict.fromkeys([ids[-1], self.tokenizer.eos_token_id]))

    def texts(self, ids: "torch.Tensor") -> list[str]:
        """Decode answers, without the layout's white space and end around them."""
        return [text.strip().removesuffix(self._end).rstrip() for text in super().texts(ids)]

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Tokenise in the template's layout; see `Family.tokenize`.

        Raises:
            ValueError: the template does not take these turns, writes no place for the image,
                or lays out an answer otherwise than it asks for one.
        """
        ids, is_target = self.lay_out(messages, self.image_token)
        ids[ids.index(self.image_token_id)] = IMAGE_PLACEHOLDER
        return ids, is_target

    def lay_out(self, messages: Sequence[Message], image_text: str) -> tuple[list[int], list[bool]]:
        """Tokenise like `tokenize`, with the tokens of a text in the image's place."""
        done: list[Piece] = []
        ids: list[int] = []
        is_target: list[bool] = []
        for pieces, is_learned in self._pieces(messages, image_text):
            done += pieces
            whole = self._ids(done)
            # Where the tokens before would come out otherwise with the rest in view, the rest is
            # tokenised by itself: what is learned must follow the very tokens that are asked with.
            is_same = whole[: len(ids)] == ids
            new = whole[len(ids) :] if is_same else self._ids(pieces, continues=True)
            ids += new
            is_target += [is_learned] * len(new)
        start = self._start_ids(done[0].text)
        return start + ids, [False] * len(start) + is_target

    def _pieces(
        self, messages: Sequence[Message], image_text: str
    ) -> list[tuple[list[Piece], bool]]:
        """The parts of a conversation in pieces, and whether each is learned."""
        parts = self._parts(tuple(role for role, _ in messages))
        messages = [(role, self._as_written(role, text)) for role, text in messages]
        return [
            (pieces_of(text.replace(self.image_token, image_text), messages), is_learned)
            for text, is_learned in parts
        ]

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count as in Family; where tokens before change with the rest in view, one by one."""
        heads = [self._heads(messages) for messages in conversations]
        return [
            len(self.tokenize(messages)[0]) - 1
            if count is None
            else len(self._start_ids(texts[0])) + count - 1
            for messages, texts, count in zip(
                conversations, heads, count_growing(self.tokenizer, heads), strict=True
            )
        ]

    def _heads(self, messages: Sequence[Message]) -> list[str]:
        """The texts up to the end of each part; none where a special token must be spelled out."""
        parts = self._pieces(messages, self.image_token)
        if self._holds_special([piece for pieces, _ in parts for piece in pieces]):
            return []
        return list(accumulate("".join(piece.text for piece in pieces) for pieces, _ in parts))

    def _as_written(self, role: str, text: str) -> str:
        """Return a text as the template writes it: some cut the white space at its ends."""
        cuts_start, cuts_end = self._cuts.get(role, (False, False))
        text = text.lstrip() if cuts_start else text
        return text.rstrip() if cuts_end else text

    @cached_property
    def _cuts(self) -> dict[str, tuple[bool, bool]]:
        """Return of each role whether the white space before and behind a text is cut."""
        found = {}
        for roles in (("user", "assistant"), ("system", "user")):
            try:
                written = self._write(roles, self._takes_parts, blank=_BLANK)
            except TemplateFault:
                continue  # not every template takes a system's turn
            for index, role in enumerate(roles):
                before, _, behind = written.partition(mark_of(index))
                found[role] = (not before.endswith(_BLANK), not behind.startswith(_BLANK))
        return found

    def _start_ids(self, text: str) -> list[int]:
        """The token that the tokenizer starts texts with, where the template does not write it."""
        bos = self.tokenizer.bos_token
        return [] if bos is None or text.startswith(bos) else self._own_start

    @cached_property
    def _own_start(self) -> list[int]:
        ids: list[int] = self.tokenizer("")["input_ids"][:1]
        return ids if ids == [self.tokenizer.bos_token_id] else []

    @cached_property
    def _special_tokens(self) -> set[str]:
        """All, those too that the tokenizer has no role for (the roles' marks of Llama 3).

        The image's is one of them, whether the tokenizer calls it special or not.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        return {str(token) for token in added if token.special} | {self.image_token}

    def _holds_special(self, pieces: Sequence[Piece]) -> bool:
        written = "".join(piece.text for piece in pieces if not piece.is_layout)
        return any(token in written for token in self._special_tokens)

    def _ids(self, pieces: Sequence[Piece], continues: bool = False) -> list[int]:
        if not self._holds_special(pieces):
            whole = Piece("".join(piece.text for piece in pieces), is_layout=True)
            return self._tokens(whole, continues)
        ids: list[int] = []
        for piece in pieces:
            for part in parted(piece, self.image_token):
                ids += self._tokens(part, continues or bool(ids))
        return ids

    def _tokens(self, piece: Piece, continues: bool) -> list[int]:
        """Tokens of a piece; where it continues a text, without the space that begins texts."""
        ids = partial(encode_text, self.tokenizer, split_special_tokens=not piece.is_layout)
        if not continues:
            return ids(piece.text)
        return ids(_ANYTHING + piece.text)[len(ids(_ANYTHING)) :]

    def _parts(self, roles: tuple[str, ...]) -> list[tuple[str, bool]]:
        """The rendered conversation in parts, and whether each is learned; rendered once."""
        if roles not in self._known_parts:
            parts = self._new_parts(roles)
            num_places = sum(text.count(self.image_token) for text, _ in parts)
            if num_places != 1:
                raise ValueError(
                    f"The chat template of {self.location} writes {self.image_token} {num_places} "
                    "times in a conversation with one image; give one that writes it once by "
                    "--chat_template."
                )
            self._known_parts[roles] = parts
        return self._known_parts[roles]

    @cached_property
    def _known_parts(self) -> dict[tuple[str, ...], list[tuple[str, bool]]]:
        return {}

    def _new_parts(self, roles: tuple[str, ...]) -> list[tuple[str, bool]]:
        rendered = self._render(roles)
        marks = list(MARK.finditer(rendered))
        if [int(mark[1]) for mark in marks] != list(range(len(roles))):
            raise ValueError(
                f"The chat template of {self.location} does not write the turns "
                f"{', '.join(roles)} each once and in order; give one that does by "
                "--chat_template."
            )
        parts: list[tuple[str, bool]] = []
        position = 0
        for index, (mark, role) in enumerate(zip(marks, roles, strict=True)):
            if role != "assistant":
                continue
            asked, before = self._render(roles[:index]), rendered[: mark.start()]
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
            parts += [(layout[position:], False), (gap + mark[0] + self._end, True)]
            rest = rendered[mark.end() :].lstrip().removeprefix(self._end)
            position = len(rendered) - len(rest)
        return parts if roles[-1] == "assistant" else [*parts, (rendered[position:], False)]

    @cached_property
    def _end(self) -> str:
        """The token behind an answer; the tokenizer's where the template writes none.

        A model must learn to stop.
        """
        answered = self._render(("user", "assistant"))
        behind = answered.rpartition(mark_of(1))[2].lstrip()
        tokens = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        tokens -= {self.image_token, self.tokenizer.bos_token}
        ends = (token for token in tokens if behind.startswith(token))
        return max(ends, key=len, default=str(self.tokenizer.eos_token))

    def _render(self, roles: tuple[str, ...]) -> str:
        """The conversation with marks for texts; asks for an answer where the last is not one."""
        if [role for role in roles if role != "system"][:1] != ["user"]:
            raise ValueError(
                "The first turn of a conversation, but for the system's, must be the user's, got "
                f"turns {', '.join(roles)}."
            )
        try:
            return self._write(roles, self._takes_parts)
        except TemplateFault as error:
            raise ValueError(
                f"The chat template of {self.location} does not take the turns "
                f"{', '.join(roles)} ({error}); give another by --chat_template."
            ) from error

    @cached_property
    def _takes_parts(self) -> bool:
        """Return True where contents are lists of parts; a language model's template takes text."""
        return self._is_fit(as_parts=True) or not self._is_fit(as_parts=False)

    def _is_fit(self, as_parts: bool) -> bool:
        try:
            written = self._write(("user",), as_parts)
        except TemplateFault:
            return False
        return self.image_token in written

    def _write(self, roles: tuple[str, ...], as_parts: bool, blank: str = "") -> str:
        turns = marked_turns(roles, None if as_parts else self.image_token, blank)
        tokens = self.tokenizer.special_tokens_map
        return render(self.template, turns, roles[-1] != "assistant", tokens)
