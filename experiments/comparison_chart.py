"""The runs of a grid as an image: a bar for each score, a line for its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_ROW = 34
_MARGIN = 16
_BAR = 420
_COLORS = ((90, 180, 110), (95, 140, 200), (225, 155, 80), (170, 120, 190), (120, 120, 120))


def draw_comparison(rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draw the scored runs, of each task the best first; a colour for each model.

    Args:
        rows: with `run`, `model`, `task`, `metric`, `value` and `interval_95` (or None for both).
    """
    scored = [row for row in rows if row["value"] is not None]
    scored.sort(key=lambda row: (row["task"], -row["value"], row["run"]))
    models = list(dict.fromkeys(row["model"] for row in rows))
    font = ImageFont.load_default(size=14)
    label = max(int(font.getlength(row["run"])) for row in scored) + 2 * _MARGIN
    tasks = list(dict.fromkeys(row["task"] for row in scored))
    height = _ROW * (len(scored) + len(tasks)) + 2 * _MARGIN
    image = Image.new("RGB", (label + _BAR + 90 + _MARGIN, height), "white")
    draw = ImageDraw.Draw(image)
    top = _MARGIN
    for task in tasks:
        group = [row for row in scored if row["task"] == task]
        longest = max(_interval(row)[1] for row in group) or 1.0
        title = f"{task}: {group[0]['metric']}, with its 95 % interval"
        draw.text((_MARGIN, top + 8), title, "black", font)
        top += _ROW
        for row in group:
            color = _COLORS[models.index(row["model"]) % len(_COLORS)]
            low, high = (label + _BAR * max(0.0, x) / longest for x in _interval(row))
            end = label + _BAR * max(0.0, row["value"]) / longest
            middle = top + _ROW // 2
            draw.text((_MARGIN, top + 8), row["run"], "black", font)
            draw.rectangle((label, top + 6, max(label, end), top + _ROW - 6), color)
            draw.line((low, middle, high, middle), "black", 2)
            for x in (low, high):
                draw.line((x, middle - 5, x, middle + 5), "black", 2)
            draw.text((max(end, high) + 8, top + 8), f"{row['value']:.4g}", "black", font)
            top += _ROW
    return image


def _interval(row: Mapping[str, Any]) -> tuple[float, float]:
    low, high = row["interval_95"] or (row["value"], row["value"])
    return low, high
