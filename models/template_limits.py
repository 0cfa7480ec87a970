"""Chat templates rendered within limits of time, memory and size.

A template is a stranger's program. transformers runs it in a sandbox that keeps it from files and
from Python, but not from `range(10**5)` in `range(10**5)` or from `'x' * 10**10`. So it runs in a
child process, where the system offers such, whose processor time and memory the system bounds.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS = 10  # of a processor; by the clock three times that
MEGABYTES = 512  # beyond what the process has
CHARACTERS = 1_000_000  # of a conversation without its texts


class TemplateFault(Exception):
    """A template that refuses a conversation, or is no template."""


def render(
    template: str, turns: Sequence[Mapping[str, Any]], asks: bool, tokens: Mapping[str, Any]
) -> str:
    """Lay a conversation out by a template, as transformers does.

    Args:
        template: Jinja text.
        turns: of the conversation, each with `role` and `content`.
        asks: whether an answer is asked for.
        tokens: the tokenizer's special tokens by the names that templates know.

    Raises:
        TemplateFault: the template does not take the conversation.
        ValueError: it needs more time or memory than is given, or writes more.
    """
    content = {"conversations": [turns], "add_generation_prompt": asks, **tokens}
    answer = _render(template, json.dumps(content, default=str), SECONDS, MEGABYTES)
    if "text" in answer and len(answer["text"]) <= CHARACTERS:
        return answer["text"]
    if "fault" in answer:
        raise TemplateFault(answer["fault"])
    raise ValueError(
        f"The chat template needs more than {SECONDS} s or {MEGABYTES} MB, or writes more than "
        f"{CHARACTERS} characters for one conversation; give another by --chat_template."
    )


@lru_cache(maxsize=512)  # one of each kind of conversation is rendered for thousands of examples
def _render(template: str, content: str, seconds: int, megabytes: int) -> dict[str, str]:
    if sys.platform == "win32":
        return _answer(template, content)
    from transformers.utils import chat_template_utils  # noqa: F401 - once, not in each child

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit(seconds, megabytes)
            with open(writer, "w", encoding="utf-8") as file:
                json.dump(_answer(template, content), file)
        finally:
            os._exit(0)
    os.close(writer)
    try:
        written = _read(reader, time.monotonic() + 3 * seconds)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found: dict[str, str] = json.loads(written) if written else {}
    return found


def _answer(template: str, content: str) -> dict[str, str]:
    """The text or the fault; empty where memory or `CHARACTERS` do not suffice."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        text = render_jinja_template(chat_template=template, **json.loads(content))[0][0]
        return {"text": text} if len(text) <= CHARACTERS else {}
    except MemoryError:
        return {}
    except Exception as error:  # a template can raise what any Python program can
        reason = " ".join(str(error).split())[:300].rstrip(".")
        return {"fault": reason or type(error).__name__}


def _limit(seconds: int, megabytes: int) -> None:
    """Bound the processor time and the memory of this process."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    status = Path("/proc/self/statm")
    if status.is_file():
        taken = int(status.read_text().split()[0]) * resource.getpagesize()
        limit = taken + (megabytes << 20)
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or limit < most:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read(reader: int, deadline: float) -> bytes:
    """Everything that is written until the end; nothing where that does not come in time."""
    parts: list[bytes] = []
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return b""
