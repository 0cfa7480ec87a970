"""The cells of a grid as an image: a bar for each score, a line for what is known around it."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from experiments.seed_means import best_first, spread
from experiments.sweep import label

_LINE = 18
_GAP = 16  # between two bars
_MARGIN = 16
_BAR = 420
_WIDEST_LABEL = 380
_COLORS = ((90, 180, 110), (95, 140, 200), (225, 155, 80), (170, 120, 190), (120, 120, 120))
_BASE = (205, 205, 205)
_FONT = ImageFont.load_default(size=14)


def draw_comparison(cells: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draw the scored cells, of each task the best first; a colour for each model, bases grey.

    A label says only what tells a cell from the others; what all share stands above them.

    Args:
        cells: as `experiments.seed_means.group_seeds` gives them.
    """
    scored = sorted((cell for cell in cells if cell["value"] is not None), key=best_first)
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    parts = [_parts(cell) for cell in scored]
    common = _common(scored)
    labels = [_wrap([part for part in own if part not in common]) for own in parts]
    left = max(round(_FONT.getlength(line)) for lines in labels for line in lines) + 2 * _MARGIN
    texts = [_value(cell) for cell in scored]
    right = max(round(_FONT.getlength(text)) for text in texts) + 8 + _MARGIN
    tasks = list(dict.fromkeys(cell["task"] for cell in scored))
    titles = {task: _title(task, scored, common) for task in tasks}
    num_lines = sum(map(len, labels)) + sum(map(len, titles.values()))
    height = _LINE * num_lines + _GAP * (len(labels) + len(tasks)) + 2 * _MARGIN
    width = max(
        left + _BAR + right,
        *(round(_FONT.getlength(t)) + 2 * _MARGIN for lines in titles.values() for t in lines),
    )
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    top = _MARGIN
    for task in tasks:
        top = _text(draw, titles[task], top) + _GAP
        own = [place for place, cell in enumerate(scored) if cell["task"] == task]
        longest = max(max(_line(scored[place])[1], scored[place]["value"]) for place in own) or 1.0
        for place in own:
            cell, bottom = scored[place], _text(draw, labels[place], top)
            color = _COLORS[models.index(cell["model"]) % len(_COLORS)]
            _bar(draw, cell, (left, top, bottom), longest, _BASE if cell["is_base"] else color)
            _, high = _line(cell)
            end = left + _BAR * max(0.0, cell["value"], high) / longest
            draw.text((end + 8, (top + bottom) / 2), texts[place], "black", _FONT, "lm")
            top = bottom + _GAP
    return image


def _parts(cell: Mapping[str, Any]) -> list[str]:
    return [cell["model"], cell["variant"], *(label(*pair) for pair in cell["settings"].items())]


def _common(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    """What every trained cell has in its label; nothing where there is one cell alone."""
    trained = [_parts(cell) for cell in scored if not cell["is_base"]]
    if len(trained) < 2:
        return []
    return [part for part in trained[0] if all(part in other for other in trained)]


def _wrap(parts: Sequence[str]) -> list[str]:
    """The parts of a label in lines that are not too wide; a part that is, is cut in the middle."""
    lines = [""]
    for part in parts:
        if (width := _FONT.getlength(part)) > _WIDEST_LABEL:
            half = int(len(part) * _WIDEST_LABEL / width) // 2 - 1
            part = f"{part[:half]}…{part[-half:]}"
        line = f"{lines[-1]}  {part}".strip()
        if _FONT.getlength(line) > _WIDEST_LABEL:
            lines.append(part)
        else:
            lines[-1] = line
    return lines


def _title(task: str, scored: Sequence[Mapping[str, Any]], common: Sequence[str]) -> list[str]:
    """The lines above the bars of a task: its metric, what lines mean, what all cells share."""
    own = [cell for cell in scored if cell["task"] == task]
    kinds = []
    if any(cell["interval_95"] for cell in own):
        kinds.append("95 % interval over examples [low, high]")
    if any(cell["sd_over_seeds"] is not None for cell in own):
        kinds.append("mean ± standard deviation (sd) over seeds, a dot for each seed")
    lines = [f"{task}: {own[0]['metric']}", *kinds]
    return [*lines, *_wrap(["in common:", *common])] if common else lines


def _value(cell: Mapping[str, Any]) -> str:
    return f"{cell['value']:.4g} {spread(cell)}".strip()


def _line(cell: Mapping[str, Any]) -> tuple[float, float]:
    """The ends of the line around a cell's value, and of its seeds."""
    value, deviation = cell["value"], cell["sd_over_seeds"] or 0.0
    low, high = cell["interval_95"] or (value - deviation, value + deviation)
    return low, max([high, *(seed for seed in cell["seeds"].values() if seed is not None)])


def _text(draw: ImageDraw.ImageDraw, lines: Sequence[str], top: int) -> int:
    for number, line in enumerate(lines):
        draw.text((_MARGIN, top + number * _LINE), line, "black", _FONT)
    return top + _LINE * len(lines)


def _bar(
    draw: ImageDraw.ImageDraw,
    cell: Mapping[str, Any],
    place: tuple[int, int, int],
    longest: float,
    color: tuple[int, int, int],
) -> None:
    """Draw one bar with its line, and a dot for each seed.

    Args:
        draw: of the image.
        cell: of the bar.
        place: left, top and bottom.
        longest: the value at the right end.
        color: of the bar.
    """
    left, top, bottom = place
    middle = (top + bottom) // 2

    def x(value: float) -> float:
        return left + _BAR * max(0.0, value) / longest

    draw.rectangle((left, middle - 11, max(left, x(cell["value"])), middle + 11), color)
    deviation = cell["sd_over_seeds"]
    ends = cell["interval_95"]
    if deviation is not None:
        ends = (cell["value"] - deviation, cell["value"] + deviation)
    if ends:
        draw.line((x(ends[0]), middle, x(ends[1]), middle), "black", 2)
        for end in map(x, ends):
            draw.line((end, middle - 5, end, middle + 5), "black", 2)
    for seed in cell["seeds"].values() if deviation is not None else ():
        if seed is not None:
            draw.circle((x(seed), middle), 3, "white", "black")
