"""A page in a real browser."""

from pathlib import Path
from typing import Any

EVIL = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


class Shown:
    """A page in the browser, with what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.asked: list[str] = []
        self.errors: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.goto(path.as_uri())

    def ids(self) -> list[int]:
        found = self.page.locator("#cards > li .tags span:first-child").all_inner_texts()
        return [int(text.removeprefix("id: ")) for text in found]

    def count(self) -> str:
        return str(self.page.locator("#count").inner_text())

    def reopened(self, browser: Any, path: Path) -> "Shown":
        other = Shown(browser, path)
        other.page.goto(self.page.url)
        other.page.reload()
        return other
