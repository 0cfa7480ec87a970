"""Pages as single files that need no network: one frame, one style, one content policy."""

import os
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from common.files import check_writable, write_text

Kind = Literal["report", "index", "preview"]
_OWN_PARTS: dict[Kind, tuple[str, ...]] = {
    "report": ("report", "headline", "training")
}  # else KIND alone


def write_page(kind: Kind, output: Path, title: str, data: object = None, **values: Any) -> None:
    """Write a page with its style and script inside.

    Args:
        kind: the template `page/KIND.html`, with the style and the script of that name.
        output: the file.
        title: of the page; plain text.
        data: what the script draws, as msgspec encodes it; a page without has no script.
        values: of the template; texts are escaped.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("evaluation", "page"),
        autoescape=True,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    names = _OWN_PARTS.get(kind, (kind,))
    if data is not None:
        # no text of a model or a data set can end the element or open another
        encoded = msgspec.json.encode(data).decode().replace("<", "\\u003c")
        script = _parts("js", "shared", *names)
        values |= {"data": Markup(encoded), "script": Markup(script)}
    style = _parts("css", "page", *names)
    template = environment.get_template(f"{kind}.html")
    write_text(output, template.render(kind=kind, title=title, style=Markup(style), **values))


def _parts(suffix: str, *names: str) -> str:
    folder = resources.files("evaluation") / "page"
    return "".join((folder / f"{name}.{suffix}").read_text("utf-8") for name in names)


def is_page(path: Path, kind: Kind) -> bool:
    """Return True where a file is a page of this kind that `write_page` wrote."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return f'<meta name="generator" content="palitune {kind}">' in file.read(1000)


def check_page(path: Path, kind: Kind, remedy: str, option: str = "--output_dir") -> None:
    """Refuse to write a page over anything else than an earlier one.

    Args:
        path: where the page is to go.
        kind: of the page.
        remedy: the end of the sentence, which says what to do.
        option: that names the page or its folder.

    Raises:
        ValueError: something else is there, or its folder cannot be written.
    """
    if path.exists() and not is_page(path, kind):
        raise ValueError(f"{path} is there and is no {kind}; {remedy}")
    check_writable(path.parent, option)


def link_to(path: str | Path | None, output: Path) -> str | None:
    """Return the relative link from a page to a file; None where there is no such file."""
    if not path or not os.path.isfile(path):
        return None
    try:
        return quote(os.path.relpath(path, output.resolve().parent).replace(os.sep, "/"))
    except ValueError:  # on another drive
        return None
