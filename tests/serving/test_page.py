"""The page in a real browser: a picture, a question, and the answers of all side by side."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.serving.served import NAMES, QUESTION, TEMPLATE, Served, predict
from tests.serving.test_chat_api import CHAT, uri


class Opened:
    """The page, with what it asked for and complained of."""

    def __init__(
        self, browser: Any, served: Served, width: int = 1280, scheme: str = "light"
    ) -> None:
        self.asked: list[str] = []
        self.errors: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.goto(served.url)
        self.page.get_by_role("button", name="Ask").wait_for()

    def give(self, image: Path, question: str = QUESTION) -> None:
        with self.page.expect_response(re.compile("/gradio_api/upload")):
            self.page.locator("input[type=file]").first.set_input_files(image)
        self.page.get_by_role("button", name="Remove Image").wait_for()
        self.page.get_by_label("Question", exact=True).fill(question)

    def answers(self) -> dict[str, str]:
        """Ask, and wait until all models have answered: name -> text."""
        self.page.get_by_role("button", name="Ask").click()
        said = self.page.locator("#answers .said")
        said.nth(len(NAMES) - 1).wait_for()
        names = self.page.locator("#answers h3").all_text_contents()
        return dict(zip(names, said.all_text_contents(), strict=True))

    def is_refused(self, reason: str) -> None:
        """Ask, and wait for a sentence with this in it."""
        self.page.get_by_role("button", name="Ask").click()
        self.page.locator("#answers [role=alert]", has_text=reason).first.wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_all_answer_side_by_side_and_nothing_is_asked_from_outside(
    width: int, scheme: str, browser: Any, served: Served
) -> None:
    expected = [predict(served.image, model) or "(nothing)" for model in served.models]
    opened = Opened(browser, served, width, scheme)
    opened.give(served.image)
    assert opened.answers() == dict(zip(NAMES, expected, strict=True))
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    inside = (f"{served.url}/", "data:", f"blob:{served.url}/")
    assert len(opened.asked) > 10
    assert not [url for url in opened.asked if not url.startswith(inside)]
    assert opened.errors == []
    tops = {
        box["y"]
        for card in opened.page.locator("#answers article").all()
        if (box := card.bounding_box())
    }
    assert len(tops) == (1 if width == 1280 else 3)


def test_the_answer_is_shown_with_its_prompt_and_time(browser: Any, served: Served) -> None:
    opened = Opened(browser, served)
    opened.give(served.image)
    opened.answers()
    cards = opened.page.locator("#answers article").all_text_contents()
    asked = [f"answer en {QUESTION}", TEMPLATE.format(question=QUESTION), f"answer en {QUESTION}"]
    for card, prompt in zip(cards, asked, strict=True):
        assert re.search(rf"\d\.\d\d s, \d+ tokens?.*Asked: {re.escape(prompt)}$", card)


def test_an_example_of_the_run_is_a_click(browser: Any, served: Served) -> None:
    opened = Opened(browser, served)
    for question in ("is it gone?", "is it damaged?"):
        assert opened.page.get_by_text(question).count() == 0
    opened.page.get_by_text("is it seen?").click()
    opened.page.get_by_role("button", name="Remove Image").wait_for()
    image = served.models[0].parent / "seen.png"
    expected = predict(image, served.models[2], question="is it seen?") or "(nothing)"
    assert opened.answers()["two/run"] == expected


@pytest.mark.parametrize(
    ("template", "question", "as_template", "as_question"),
    [
        ("look: {question}", QUESTION, "look: {question}", QUESTION),
        ("describe it", "", "{question}", "describe it"),
    ],
)
def test_a_prompt_of_ones_own(
    template: str, question: str, as_template: str, as_question: str, browser: Any, served: Served
) -> None:
    opened = Opened(browser, served)
    opened.give(served.image, question)
    opened.page.get_by_role("button", name="A prompt of your own").click()
    opened.page.get_by_label("In place of that prompt").fill(template)
    words = ("--prompt_template", as_template)
    expected = [predict(served.image, m, *words, question=as_question) for m in served.models]
    assert list(opened.answers().values()) == [text or "(nothing)" for text in expected]


def test_what_cannot_be_answered_is_a_sentence_and_the_next_is_answered(
    browser: Any, served: Served, tmp_path: Path
) -> None:
    opened = Opened(browser, served)
    opened.is_refused("There is no picture yet")
    opened.give(served.image, "")
    opened.is_refused("asks a question: give it in the field Question.")
    opened.page.get_by_label("Question", exact=True).fill(QUESTION)
    assert len(opened.answers()) == 3
    (tmp_path / "text.png").write_text("no picture")
    other = Opened(browser, served)
    with other.page.expect_response(re.compile("/gradio_api/upload")):
        other.page.locator("input[type=file]").first.set_input_files(tmp_path / "text.png")
    other.page.get_by_role("button", name="Remove Image").wait_for()
    other.is_refused("not an image in a known format")


def test_a_text_of_a_model_or_a_user_is_text(browser: Any, served: Served) -> None:
    opened = Opened(browser, served)
    opened.give(served.image, "<img src=x onerror='window.hacked = 1'>")
    opened.answers()
    assert opened.page.evaluate("window.hacked") is None
    assert "<img" in str(opened.page.locator("#answers").text_content())


def test_ctrl_c_ends_the_server_without_a_traceback(served: Served) -> None:
    """Last of all: the server is gone then. An answer is on its way."""
    parts = [{"type": "image_url", "image_url": {"url": uri(served.image)}}]
    asked = [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]
    waiting = served.begin(CHAT, {"model": "base", "messages": asked, "max_tokens": 10**6})
    with pytest.raises(TimeoutError):
        waiting.getresponse()
    assert served.greeting == f"{', '.join(NAMES)}: {served.url} (Ctrl-C ends it)\n"
    code, errors = served.stop(signal.SIGINT)
    assert code == 130
    assert errors.endswith("Stopped at once by Ctrl-C.\n")
    assert "Traceback" not in errors
