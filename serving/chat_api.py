"""The chat interface: `POST /v1/chat/completions` and `GET /v1/models`, as OpenAI shapes them.

Source of the shapes: https://platform.openai.com/docs/api-reference/chat. A model is asked by the
prompt of its own task, so that the text of the last message is the question; the answer is cleaned
as that task has it. What is not understood is refused, none of it is passed over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Annotated, Any, Literal

import fastapi
import msgspec
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from msgspec import Meta

from evaluation.request import PromptRequest
from evaluation.side_by_side import Answer, Question, SideBySide
from tasks.base import Turn
from tasks.embedded_images import read_image
from tasks.image_marks import join_texts
from tasks.images import BytesImage

logger = logging.getLogger(__name__)

_MOST_BYTES = 128 * 2**20  # of a request
_Count = Annotated[int, Meta(ge=1)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A record whose every field is understood."""


class _Url(_Strict):
    url: str
    detail: Literal["auto"] = "auto"


class _TextPart(_Strict, tag_field="type", tag="text"):
    text: str


class _ImagePart(_Strict, tag_field="type", tag="image_url"):
    image_url: _Url


class _Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str | list[_TextPart | _ImagePart]


class _Request(_Strict):
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: float | None = None
    n: int = 1
    stream: bool = False
    user: str | None = None  # says who asks; changes no answer there either


class _Refusal(ValueError):
    """A request that is refused with a status of its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def add_chat_api(app: fastapi.FastAPI, models: SideBySide) -> None:
    """Add the two routes to a server.

    Args:
        app: the server.
        models: answer.
    """
    numbers = count(1)

    async def complete(request: fastapi.Request) -> Response:
        try:
            asked = _read_request(await _body(request))
            question = _question(asked, models)
            async with _left(request) as has_left:
                answer = await run_in_threadpool(models.answer, asked.model, question, has_left)
        except ValueError as error:
            return _error(str(error), error.status if isinstance(error, _Refusal) else 400)
        except Exception:
            logger.exception("A request of the chat interface failed.")
            return _error("The server failed; its terminal shows how.", 500)
        return _json(_completion(asked.model, answer, next(numbers)))

    async def list_models(_: fastapi.Request) -> Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "palitune"}
            for name in models.candidates
        ]
        return _json({"object": "list", "data": rows})

    app.add_route("/v1/chat/completions", complete, methods=["POST"])
    app.add_route("/v1/models", list_models, methods=["GET"])


@asynccontextmanager
async def _left(request: fastapi.Request) -> AsyncIterator[Callable[[], bool]]:
    """Watch inside the block whether the client, whose request was read, has left."""
    left = asyncio.ensure_future(request.receive())  # nothing else can come
    try:
        yield left.done
    finally:
        left.cancel()


async def _body(request: fastapi.Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise _Refusal(f"A request may have {_MOST_BYTES:,} bytes at most.", 413)
    return bytes(body)


def _read_request(body: bytes) -> _Request:
    try:
        asked = msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"The request cannot be taken: {error}.") from error
    if asked.stream:
        raise ValueError("Answers are not streamed; leave out stream.")
    if asked.n != 1 or asked.temperature not in (None, 0):
        raise ValueError("An answer is decoded as its run records; leave out n and temperature.")
    if asked.max_tokens and asked.max_completion_tokens:
        raise ValueError("max_tokens and max_completion_tokens are one setting; give one of them.")
    return asked


def _question(asked: _Request, models: SideBySide) -> Question:
    if asked.model not in models.candidates:
        known = ", ".join(models.candidates)
        raise _Refusal(f"There is no model {asked.model}; there are {known}.", 404)
    messages = asked.messages
    images = _images(messages)
    system = _text(messages.pop(0)) if messages[0].role == "system" else None
    if not messages or any(message.role == "system" for message in messages):
        raise ValueError("Messages are at most one of role system, first, and then others.")
    if messages[-1].role != "user":
        raise ValueError("The last message must be of role user: it is what is asked.")
    return Question(
        image=images[0],
        further_images=images[1:],
        task=models.candidates[asked.model].tasks[0],
        turns=tuple(_turn(message, len(images)) for message in messages),
        prompt=PromptRequest(system_message=system),
        decoding=_decoding(asked),
        how="as text of the last message",
    )


def _decoding(asked: _Request) -> dict[str, Any]:
    """The settings in place of the run's; a temperature of 0 draws nothing."""
    most = asked.max_tokens or asked.max_completion_tokens
    found: dict[str, Any] = {} if most is None else {"max_new_tokens": most}
    return found | ({"do_sample": False} if asked.temperature == 0 else {})


def _text(message: _Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, _TextPart))


def _turn(message: _Message, num_images: int) -> Turn:
    """A turn; a single image stands before the first text, several where their parts do."""
    role: Literal["user", "assistant"] = "user" if message.role == "user" else "assistant"
    if num_images == 1 or isinstance(message.content, str):
        return Turn(role, _text(message))
    texts = [""]
    for part, before in zip(message.content, [None, *message.content], strict=False):
        if isinstance(part, _ImagePart):
            texts.append("")
        else:
            texts[-1] += "\n" * isinstance(before, _TextPart) + part.text
    return Turn(role, *join_texts(texts))


def _images(messages: list[_Message]) -> tuple[BytesImage, ...]:
    shown = [
        (message.role, part.image_url.url)
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, _ImagePart)
    ]
    if any(role != "user" for role, _ in shown):
        raise ValueError("An image can be shown by a message of role user alone.")
    if not shown:
        raise ValueError("A conversation is about an image or several, and none is given.")
    images = []
    for _, url in shown:
        image = read_image(url, "image_url")
        if not isinstance(image, BytesImage):
            raise ValueError(
                "image_url takes the image itself as data:image/...;base64,...; no address is "
                "fetched."
            )
        image.open()  # said at once where it cannot be
        images.append(image)
    return tuple(images)


def _completion(model: str, answer: Answer, number: int) -> dict[str, object]:
    raw = answer.raw
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.prediction},
                "finish_reason": "stop" if raw.is_whole else "length",
            }
        ],
        "usage": {
            "prompt_tokens": raw.num_prompt_tokens,
            "completion_tokens": raw.num_tokens,
            "total_tokens": raw.num_prompt_tokens + raw.num_tokens,
        },
    }


def _error(message: str, status: int) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _json({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


def _json(content: dict[str, object], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
