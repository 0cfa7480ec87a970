"""README and documentation hang together: short enough, every page reachable, every link good."""

import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.docs.documented import commands, name_of, pages
from tests.helpers import REPOSITORY

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 1200


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_each_link_of_a_page_leads_to_a_file(page: Path) -> None:
    assert not [link for link in _links(page) if not (page.parent / link).exists()]


def _links(page: Path) -> list[str]:
    """The files that a page links to."""
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    return [link for link in links if not link.startswith("http")]


def test_the_site_builds_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # strict in mkdocs.yml: a link that leads nowhere raises
    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path)))
    assert (tmp_path / "tasks" / "vqav2" / "index.html").is_file()
    html = "".join(p.read_text(encoding="utf-8") for p in sorted(tmp_path.rglob("*.html")))
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)', html)
    assert not [place for place in loaded if "canonical" not in place]


def test_every_page_is_in_the_menu() -> None:
    menu = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    docs = REPOSITORY / "docs"
    shown = [page.relative_to(docs).as_posix() for page in pages() if docs in page.parents]
    assert not [name for name in shown if f" {name}\n" not in menu]


def _korean() -> list[tuple[Path, Path]]:
    """Each Korean page and the English one that it follows."""
    docs = REPOSITORY / "docs"
    found = [
        (page, docs / page.relative_to(docs / "ko")) for page in sorted((docs / "ko").rglob("*.md"))
    ]
    return [(REPOSITORY / "README.ko.md", REPOSITORY / "README.md"), *found]


@pytest.mark.parametrize(("korean", "english"), _korean(), ids=lambda page: name_of(page))
def test_a_korean_page_has_the_commands_headings_and_links_of_the_english_one(
    korean: Path, english: Path
) -> None:
    assert commands(korean) == commands(english)
    assert _headings(korean) == _headings(english)
    assert not [link for link in _links(korean) if not (korean.parent / link).exists()]
    assert not {Path(link).name for link in _links(english)} - {
        Path(link).name for link in _links(korean)
    }
    assert re.search("[가-힣]", korean.read_text(encoding="utf-8"))


def _headings(page: Path) -> list[int]:
    """The levels of a page's headings, in their order."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
