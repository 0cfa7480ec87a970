"""One record of a data set of conversations -> its turns and images, whichever tool wrote it.

The forms are those of LLaVA and ShareGPT (`conversations` of `from` and `value`, also of `role` and
`content`) and of OpenAI's chat messages, as LLaMA-Factory, ms-swift and TRL read them (`messages`,
whose contents are texts or lists of parts). In texts `<image>` marks where an image goes. The marks
are taken out. A single image is shown before the text of its turn, as in LLaVA's training code;
several stand where they are marked.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from tasks.base import ImageRef, Turn
from tasks.cells import is_empty, text_cell
from tasks.embedded_images import read_image
from tasks.image_marks import MARK, join_texts

NAMES = {
    "messages": ("messages", "conversations"),
    "image": ("image",),
    "images": ("images",),
    "system": ("system",),
}
# what a record may hold that changes what a conversation means
UNREAD = (
    *("tools", "videos", "video", "audios", "audio", "objects"),
    *("chosen", "rejected", "rejected_response"),  # of preferences
)
JUDGED = ("label", "kto_tag")  # false beside an answer that nobody wants
_UNREAD_IN_TURNS = ("tool_calls", "function_call")
_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
_IMAGE_KEYS = ("image", "image_url", "url", "path", "base64")  # of a part that holds its image


class Conversation(msgspec.Struct, frozen=True):
    """A conversation as a record has it.

    Attributes:
        turns: a system turn if there is one, then user and assistant by turns.
        images: paths and URLs as they are written, and images that the record itself holds.
        is_moved: whether the single image stood inside a text, and not at its beginning or end.
    """

    turns: tuple[Turn, ...]
    images: tuple[str | ImageRef, ...]
    is_moved: bool

    @property
    def has_answer(self) -> bool:
        """Return True where the assistant has the last word."""
        return self.turns[-1].role == "assistant"


class _Turn(msgspec.Struct):
    """A turn while its record is read; an image of None is one of those beside the conversation."""

    role: Literal["user", "assistant", "system"]
    text: str  # as it reads without its images
    images: list[str | ImageRef | None]
    parts: list[str]  # the texts before, between and behind them


def read_conversation(
    record: Mapping[str, Any], columns: Mapping[str, str], where: str
) -> Conversation:
    """Read the conversation of a record.

    Args:
        record: as the file holds it.
        columns: our name of a key -> its name in the record, where that is another one.
        where: how an error calls the record.

    Raises:
        ValueError: it has none, its turns are not in order, or images and marks do not agree.
    """
    _refuse(record, UNREAD, where)
    if judged := [key for key in JUDGED if record.get(key) is False]:
        raise ValueError(
            f"{where} has '{judged[0]}' false, so its answer is not to be learned; leave the "
            "record out."
        )
    turns = [
        _read_turn(entry, f"{where}, turn {number}")
        for number, entry in enumerate(_entries(record, columns, where), start=1)
    ]
    if turns and turns[0].role == "system" and not turns[0].text:
        del turns[0]
    system = record.get(columns.get("system", "system"))
    if not is_empty(system):
        text = text_cell(system, f"{where}, its system message")
        turns.insert(0, _Turn("system", text, [], [text]))
    _check_order(turns, where)
    one, many = (_beside(record.get(columns.get(key, key)), where) for key in ("image", "images"))
    beside = many if all(image in many for image in one) else one + many
    shown = _shown(turns, beside, where)
    first = next(index for index, turn in enumerate(turns) if turn.role == "user")
    is_usual = [index for _, index in shown] in ([], [first])  # no image, or one in front
    return Conversation(
        turns=tuple(
            Turn(turn.role, turn.text) if is_usual else _with_places(turn, index, shown)
            for index, turn in enumerate(turns)
        ),
        images=tuple(image for image, _ in shown),
        is_moved=is_usual and any(sum(map(bool, map(str.strip, t.parts))) > 1 for t in turns),
    )


def _beside(found: Any, where: str) -> list[str | ImageRef]:
    entries = found if isinstance(found, list | tuple) else [found]
    return [read_image(entry, where) for entry in entries if not is_empty(entry)]


def _with_places(turn: _Turn, index: int, shown: Sequence[tuple[str | ImageRef, int]]) -> Turn:
    """A turn with the places of its images; those that nothing marks stand in front."""
    text, places = join_texts(turn.parts)
    num_in_front = sum(place == index for _, place in shown) - len(places)
    return Turn(turn.role, text, (0,) * num_in_front + places)


def _refuse(record: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if _says_something(record.get(key)):
            raise ValueError(
                f"{where} has '{key}', which cannot be learned here; leave the record out, or the "
                "key if the conversation makes sense without it."
            )


def _says_something(found: Any) -> bool:
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return any(map(_says_something, found))
    return not is_empty(found) and found not in ("[]", "{}", False)


def _entries(record: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Sequence[Any]:
    names = (columns["messages"],) if "messages" in columns else NAMES["messages"]
    present = [name for name in names if not is_empty(record.get(name))]
    if not present:
        keys = ", ".join(map(str, record))[:200] or "none"
        raise ValueError(
            f"{where} has no conversation under '{' or '.join(names)}', its keys are {keys}; name "
            "the right one by --hub_columns messages=KEY."
        )
    if len(present) > 1:
        raise ValueError(
            f"{where} has both {' and '.join(present)}; say which one counts by --hub_columns "
            "messages=KEY."
        )
    found = record[present[0]]
    if isinstance(found, dict) and all(isinstance(column, list) for column in found.values()):
        # `datasets` may store a list of objects as an object of lists
        columns_of_turns = zip(*found.values(), strict=False)
        found = [dict(zip(found, cells, strict=True)) for cells in columns_of_turns]
    if not isinstance(found, list | tuple):
        raise ValueError(
            f"{where}: '{present[0]}' is a {type(found).__name__}, and must be a list of turns."
        )
    return found


def _read_turn(entry: Any, where: str) -> _Turn:
    if not isinstance(entry, dict):
        raise ValueError(
            f"{where} is a {type(entry).__name__}, and must be an object with role and content, "
            "or from and value."
        )
    _refuse(entry, _UNREAD_IN_TURNS, where)
    written = next((entry[key] for key in ("role", "from") if not is_empty(entry.get(key))), None)
    role = _ROLES.get(str(written).strip().lower())
    if role is None:
        raise ValueError(
            f"{where} has the role {str(written)[:40]!r}; roles are system, human or user, gpt or "
            "assistant."
        )
    if role == "assistant" and (entry.get("loss") in (False, 0) or entry.get("weight") == 0):
        raise ValueError(
            f"{where} says that it is not to be learned, and all turns of the assistant are; leave "
            "the record out, or the key."
        )
    contents = [entry[key] for key in ("content", "value") if not is_empty(entry.get(key))]
    if contents[1:] and contents[0] != contents[1]:
        raise ValueError(f"{where} has a content and another value; keep the one that is meant.")
    turn = _read_content(role, contents[0] if contents else None, where)
    if is_empty(turn.text) and role == "assistant":
        raise ValueError(f"{where} is an empty answer; write one, or leave the record out.")
    if is_empty(turn.text) and role == "user" and not turn.images:
        raise ValueError(f"{where} is empty; write what is asked, or leave the record out.")
    if turn.images and role != "user":
        raise ValueError(f"{where} shows an image, which turns of the user alone can do.")
    return turn


def _read_content(role: Literal["user", "assistant", "system"], content: Any, where: str) -> _Turn:
    parts = content if isinstance(content, list | tuple) else [content]
    texts = [""]  # what stands before, between and behind the images
    gaps = [""]  # before each of them where the images are taken out
    images: list[str | ImageRef | None] = []
    for part in parts:
        if isinstance(part, dict) and _kind(part) != "text":
            images.append(_read_part(part, where))
            texts.append("")
            gaps.append("\n")
            continue
        written = part.get("text") if isinstance(part, dict) else part
        if not isinstance(written, str):  # whose white space counts, as parts follow each other
            written = "" if is_empty(written) else text_cell(written, where)
        first, *rest = written.split(MARK)
        texts[-1] += first
        texts += rest
        gaps += [""] * len(rest)
        images += [None] * len(rest)
    text = "".join(gap + text for gap, text in zip(gaps, texts, strict=True))
    return _Turn(role, text.strip(), images, texts)


def _kind(part: Mapping[str, Any]) -> str:
    if not is_empty(part.get("type")):
        return str(part["type"])
    if part.get("text") is not None:
        return "text"
    return "image" if any(not is_empty(part.get(key)) for key in _IMAGE_KEYS) else "unknown"


def _read_part(part: Mapping[str, Any], where: str) -> str | ImageRef | None:
    """The image of a part; None where it is the next of those beside the conversation."""
    if _kind(part) not in ("image", "image_url"):
        raise ValueError(
            f"{where} has a part of type {_kind(part)[:40]!r}; parts are text, image and image_url."
        )
    found = next((part[key] for key in _IMAGE_KEYS if not is_empty(part.get(key))), None)
    return None if found is None else read_image(found, where)


def _check_order(turns: Sequence[_Turn], where: str) -> None:
    """Raise ValueError unless the user and the assistant take turns, the user first."""
    has_system = bool(turns) and turns[0].role == "system"
    talk = turns[has_system:]
    if not talk:
        raise ValueError(f"{where} has no turn of the user; write one, or leave the record out.")
    for index, turn in enumerate(talk):
        due = ("user", "assistant")[index % 2]
        if turn.role != due:
            raise ValueError(
                f"{where}: after {index} turn(s) of user and assistant comes one of {turn.role}, "
                f"where {due} is due; user and assistant must take turns, the user first, with at "
                "most one system turn before them."
            )


def _shown(
    turns: Sequence[_Turn], beside: Sequence[str | ImageRef], where: str
) -> list[tuple[str | ImageRef, int]]:
    """Return each image with the turn that shows it."""
    places = [(image, index) for index, turn in enumerate(turns) for image in turn.images]
    num_marks = sum(image is None for image, _ in places)
    if not num_marks:  # as LLaVA-like sets without marks mean it
        first = next(index for index, turn in enumerate(turns) if turn.role == "user")
        return [(image, first) for image in beside] + [
            (image, index) for image, index in places if image is not None
        ]
    if not beside and num_marks == len(places):
        return []
    if num_marks != len(beside):
        raise ValueError(
            f"{where} has {num_marks} mark(s) {MARK} and {len(beside)} image(s) beside the "
            "conversation; each image needs one mark, or all of them none."
        )
    rest = iter(beside)
    return [(next(rest) if image is None else image, index) for image, index in places]
