"""A chat family that lays out and does not look, with templates that each show one habit."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from models.chat import ChatFamily
from models.encoding import IMAGE_PLACEHOLDER, Message
from models.settings import FamilyOptions
from tests.models.tiny_families import TINY

# A content in parts; [x] around the role, the image first, <eos> behind each answer.
PARTS = (
    "{% for message in messages %}{{ '[' + message.role + ']' }}"
    "{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else ' ' + part.text }}{% endfor %}"
    "{{ '<eos>' if message.role == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
# A content that is text, as templates of language models have it.
TEXT = (
    "{% for message in messages %}"
    "{{ '[' + message.role + '] ' + message.content + ('<eos>' if message.role == 'assistant'"
    " else ' ') }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
QUESTION: Message = ("user", "what is it?")
TALK: list[Message] = [
    QUESTION,
    ("assistant", "a red circle"),
    ("user", "and the other?"),
    ("assistant", "it is blue"),
]


class Talk(ChatFamily):
    """A family that lays out and does not look."""

    name = "talk"
    model_types = ("talk",)
    chat_template = PARTS

    def process_image(self, image: Any) -> Any:
        raise NotImplementedError


def make_tokenizer(
    *, starts_with_space: bool = False, adds_bos: bool = False, extra: Sequence[str] = ()
) -> Any:
    """The embedded model's words; `starts_with_space` as Llama's: "red" is read as " red"."""
    words = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    if starts_with_space:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        words.normalizer = normalizers.Sequence(steps)
    if adds_bos:
        words.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.add_tokens(list(extra), special_tokens=True)
    return tokenizer


def make_family(
    folder: Path, template: str | None = PARTS, tokenizer: Any = None, saved: str | None = None
) -> Talk:
    family = Talk(str(folder), saved=saved, options=FamilyOptions(chat_template=template))
    if tokenizer is not None:
        family.tokenizer = tokenizer
    elif not (folder / "tokenizer.json").exists() and saved is None:
        family.tokenizer = make_tokenizer()
    family.config = SimpleNamespace(image_token_id=812)  # <image> of the embedded tokenizer
    return family


def text_of(family: Talk, messages: Sequence[Message]) -> str:
    ids, _ = family.tokenize(messages)
    return str(family.tokenizer.decode([812 if id_ == IMAGE_PLACEHOLDER else id_ for id_ in ids]))


def learned(family: Talk, messages: Sequence[Message]) -> str:
    tokens = zip(*family.tokenize(messages), strict=True)
    return str(family.tokenizer.decode([id_ for id_, is_learned in tokens if is_learned]))
