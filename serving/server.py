"""The server on 127.0.0.1: the page and the chat interface, for this machine's own user alone."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastapi
import uvicorn

from evaluation.sample_questions import SampleQuestion
from evaluation.side_by_side import SideBySide
from serving.chat_api import add_chat_api

HOST = "127.0.0.1"
_MOST_UPLOADED = "600mb"  # more than any image that is decoded
# a page of this server may load from this server and from nowhere else
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'"
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def listen(port: int) -> socket.socket:
    """Take a port of this machine, before anything slow is done for it.

    Args:
        port: its number; 0 takes any free one.

    Raises:
        ValueError: it is in use, or may not be taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has ended
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        why = "in use" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
        raise ValueError(
            f"Port {port} of {HOST} is {why}; choose another by --port, or 0 for any free one."
        ) from error
    return listener


def serve(
    models: SideBySide,
    examples: Sequence[SampleQuestion],
    listener: socket.socket,
) -> None:
    """Serve until the process is asked to stop; uploaded pictures are then gone.

    Args:
        models: answer.
        examples: questions to choose from.
        listener: takes the connections.
    """
    with TemporaryDirectory(prefix="palitune-serve-") as folder:
        os.environ |= {  # read when Gradio is imported
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": folder,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        from serving.page import mount_page

        app = fastapi.FastAPI(openapi_url=None)  # its own pages load from elsewhere
        add_chat_api(app, models)
        mount_page(app, models, examples, Path(folder), _MOST_UPLOADED)
        port = listener.getsockname()[1]
        guarded = _OwnOnly(app, {f"{host}:{port}".encode() for host in (HOST, "localhost")})
        config = uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=1)
        _Server(config, models).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends what the models are writing before it waits for the answers on their way."""

    def __init__(self, config: uvicorn.Config, models: SideBySide) -> None:
        super().__init__(config)
        self._models = models

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._models.stop()
        await super().shutdown(sockets)


class _OwnOnly:
    """Lets in what asks for this server by its own name, from its own pages or from no page.

    Another site may have its name point here (DNS rebinding), or send here from its own pages.
    """

    def __init__(self, app: App, hosts: set[bytes]) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = {None, *(b"http://" + host for host in hosts)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"host") in self._hosts and headers.get(b"origin") in self._origins:
            await self._app(scope, receive, self._with_policy(send))
            return
        answer = fastapi.responses.PlainTextResponse("Only for pages of this server.\n", 403)
        await answer(scope, receive, send)

    def _with_policy(self, send: Send) -> Send:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        return with_policy
