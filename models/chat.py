"""Families whose conversations are laid out by a chat template (Jinja, as transformers reads it).

The template that the user gives counts, else the checkpoint's own, else the family's. No text of a
user or a model is obeyed as a special token, and exactly the assistant's words and the token that
ends them are learned.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from models.base import Family
from models.chat_layout import ChatLayout
from models.chat_marks import Piece, parted, pieces_of, shapes_of
from models.encoding import IMAGE_PLACEHOLDER, Message, num_images
from models.processor_files import processor_template
from models.text_tokens import count_growing, encode_text

if TYPE_CHECKING:
    import torch

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
    def layout(self) -> ChatLayout:
        """Return what the template in force makes of conversations."""
        return ChatLayout(self.template, self.location, self.image_token, self.tokenizer)

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
        return [text.strip().removesuffix(self.layout.end).rstrip() for text in super().texts(ids)]

    def tokenize(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Tokenise in the template's layout; see `Family.tokenize`.

        Raises:
            ValueError: the template does not take these turns, writes no place for the image,
                or lays out an answer otherwise than it asks for one.
        """
        ids, is_target = self.lay_out(messages)
        image = self.image_token_id
        return [IMAGE_PLACEHOLDER if id_ == image else id_ for id_ in ids], is_target

    def lay_out(
        self, messages: Sequence[Message], image_texts: Sequence[str] | None = None
    ) -> tuple[list[int], list[bool]]:
        """Tokenise like `tokenize`, with the tokens of these texts in the images' places.

        Without them it is the image token that stands there.
        """
        done: list[Piece] = []
        ids: list[int] = []
        is_target: list[bool] = []
        for pieces, is_learned in self._pieces(messages, image_texts):
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
        self, messages: Sequence[Message], image_texts: Sequence[str] | None = None
    ) -> list[tuple[list[Piece], bool]]:
        """The parts of a conversation in pieces, and whether each is learned."""
        shapes, texts = shapes_of(messages)
        parts = self.layout.parts(shapes)
        texts = self.layout.as_written(shapes, texts)
        if image_texts is not None:
            parts = self._with_texts(parts, image_texts)
        return [(pieces_of(text, texts), is_learned) for text, is_learned in parts]

    def _with_texts(
        self, parts: Sequence[tuple[str, bool]], image_texts: Sequence[str]
    ) -> list[tuple[str, bool]]:
        """Put a text in the place of each image."""
        left = iter(image_texts)
        found = []
        for text, is_learned in parts:
            first, *rest = text.split(self.image_token)
            found.append((first + "".join(next(left) + behind for behind in rest), is_learned))
        return found

    def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """Count as in Family; where tokens before change with the rest in view, one by one."""
        heads = [self._heads(messages) for messages in conversations]
        return [
            (
                len(self.tokenize(messages)[0])
                if count is None
                else len(self._start_ids(texts[0])) + count
            )
            - num_images(messages)
            for messages, texts, count in zip(
                conversations, heads, count_growing(self.tokenizer, heads), strict=True
            )
        ]

    def _heads(self, messages: Sequence[Message]) -> list[str]:
        """The texts up to the end of each part; none where a special token must be spelled out."""
        parts = self._pieces(messages)
        if self._holds_special([piece for pieces, _ in parts for piece in pieces]):
            return []
        return list(accumulate("".join(piece.text for piece in pieces) for pieces, _ in parts))

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
