"""A sweep as an image: one row per candidate, the retention of each task as colour."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from merging.tables import share

_CELL = (120, 28)
_MARGIN = 12


def draw_sweep(sweep: Mapping[str, Any]) -> Image.Image:
    """Draw the candidates, the best first: from white (nothing kept) to green (all, or more).

    A task that has no say, as its own adapter scores 0, is a column of dashes on white.

    Args:
        sweep: what `merging.trial.choose` gives.
    """
    rows = sorted(sweep["candidates"], key=lambda row: (-row["worst"], -row["mean"]))
    tasks = list(rows[0]["retention"])
    font = ImageFont.load_default(size=14)
    label = max(int(font.getlength(row["name"])) for row in rows) + 2 * _MARGIN
    width, height = _CELL
    columns = [*tasks, "worst"]
    size = (label + width * len(columns) + _MARGIN, height * (len(rows) + 2) + _MARGIN)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, 6), "retention: score / score of the task's own adapter", "black", font)
    for index, name in enumerate(columns):
        draw.text((label + index * width + 6, height + 6), name, "black", font)
    for number, row in enumerate(rows, start=2):
        top = number * height
        mark = "> " if row["name"] == sweep["chosen"] else ""
        draw.text((_MARGIN, top + 6), mark + row["name"], "black", font)
        for index, value in enumerate([*row["retention"].values(), row["worst"]]):
            left = label + index * width
            draw.rectangle((left, top, left + width - 2, top + height - 2), _color(value))
            draw.text((left + 6, top + 6), share(value), "black", font)
    return image


def _color(value: float | None) -> tuple[int, int, int]:
    kept = min(1.0, max(0.0, value or 0.0))
    return tuple(round(255 - kept * (255 - end)) for end in (90, 180, 110))  # type: ignore[return-value]
