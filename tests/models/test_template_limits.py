"""A chat template that asks for too much ends in one sentence; others render as before."""

import time
from pathlib import Path
from typing import Any

import pytest

from models import template_limits
from models.template_limits import TemplateFault, render
from tests.helpers import one_sentence

TURNS = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**10 }}",
        "{{ 'x' | center(10**10) }}",
        "{% set ns = namespace(t='xxxx') %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t %}"
        "{% endfor %}",
        "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ 'x' * 2000000 }}",
    ],
)
def test_too_much_memory_or_text(template: str) -> None:
    with one_sentence("The chat template needs more than", "--chat_template"):
        render(template, TURNS, True, {})


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10**(10**10) }}",
    ],
)
def test_too_much_time(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 1)
    start = time.monotonic()
    with one_sentence("The chat template needs more than 1 s"):
        render(template, TURNS, True, {})
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ " + "(" * 100_000, "."),
    ],
)
def test_a_fault_of_the_template_is_told_as_one(template: str, reason: str) -> None:
    with pytest.raises((TemplateFault, ValueError), match=reason):
        render(template, TURNS, True, {})


def test_a_plain_template_gets_turns_tokens_and_whether_it_asks() -> None:
    template = "{{ bos_token }}{{ messages[0].content }}{{ '?' if add_generation_prompt else '.' }}"
    assert render(template, TURNS, True, {"bos_token": "<s>"}) == "<s>hello?"
    assert render(template, TURNS, False, {"bos_token": "<s>"}) == "<s>hello."


def test_a_template_writes_no_file(tmp_path: Path) -> None:
    template = "{{ ''.__class__.__base__.__subclasses__() }}"
    with pytest.raises(TemplateFault):
        render(template, TURNS, True, {})


def test_one_kind_of_conversation_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    forks: list[Any] = []
    fork = template_limits.os.fork
    monkeypatch.setattr(template_limits.os, "fork", lambda: forks.append(0) or fork())
    for _ in range(5):
        render("{{ 'once' }}", TURNS, True, {})
    assert len(forks) == 1
