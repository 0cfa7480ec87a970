"""The curves of a training as an image, `curves.png`."""

import io
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from common.files import write_chunks
from evaluation.training_log import (
    Curves,
    Line,
    ScoreCurve,
    drawable,
    headlines,
    is_best,
    make_curves,
)
from tasks.base import Task

if TYPE_CHECKING:
    from transformers import TrainerState

CURVES = "curves.png"
_SCALE = 2  # drawn this many times larger and made smaller, for smooth lines
_PANEL = (520, 300)
_FRAME = (76, 34, 500, 250)  # left, top, right, bottom of the axes in a panel
_BLUE, _GREEN, _INK, _GRID, _BAND = "#0b5cad", "#17703a", "#1b1f24", "#d8dee4", "#c9dcf0"
_AXIS = "optimiser step"

Points = Sequence[tuple[float, float]]


def write_curves(state: "TrainerState", tasks: Sequence[Task], folder: Path) -> Curves:
    """Draw the curves of a training into its run's folder; without any there is no file.

    Args:
        state: of the trainer; its log holds the curves of a resumed run from the start.
        tasks: what was trained on.
        folder: of the run.

    Returns:
        The curves.
    """
    known = {"log_history": state.log_history, "best_global_step": state.best_global_step}
    curves = make_curves(known, headlines(tasks))
    (folder / CURVES).unlink(missing_ok=True)
    if drawn := drawable(curves):
        file = io.BytesIO()
        draw_curves(drawn).save(file, "PNG")
        write_chunks(folder / CURVES, [file.getvalue()])
    return curves


def draw_curves(curves: Curves) -> Image.Image:
    """Draw a panel for each curve of `drawable`, two in a row, over optimiser steps."""
    panels = [_score_panel(curve, curves) for curve in curves.scores]
    for line, title in (
        (curves.loss, "loss (nats)"),
        (curves.learning_rate, "learning rate"),
        (curves.gradient_norm, "gradient norm, before clipping"),
    ):
        if line:
            panels.append(_line_panel(line, title))
    width, height = _PANEL
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    image = Image.new("RGB", (width * columns, height * rows), "white")
    for place, panel in enumerate(panels):
        image.paste(panel, (width * (place % columns), height * (place // columns)))
    return image


class _Axes:
    """A panel's two axes, with what is drawn between them."""

    def __init__(self, title: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        width, height = (side * _SCALE for side in _PANEL)
        self.image = Image.new("RGB", (width, height), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.x_ticks, self.y_ticks = _ticks(0, max(xs)), _ticks(min(ys), max(ys))
        self.xs = 0, max(xs)
        self.ys = self.y_ticks[0], self.y_ticks[-1]
        left, top, right, bottom = _FRAME
        self.text((left, 8), title, anchor="la")
        for tick in self.y_ticks:
            _, y = self.place(0, tick)
            self.draw.line((left * _SCALE, y, right * _SCALE, y), _GRID, _SCALE)
            self.text((left - 8, y / _SCALE), f"{tick:.6g}", anchor="rm")
        for tick in self.x_ticks:
            if tick == int(tick) and tick <= self.xs[1]:
                x, _ = self.place(tick, 0)
                self.draw.line((x, bottom * _SCALE, x, (bottom + 5) * _SCALE), _INK, _SCALE)
                self.text((x / _SCALE, bottom + 8), f"{tick:.6g}", anchor="ma")
        corners = ((left, top), (left, bottom), (right, bottom))
        self.draw.line([(x * _SCALE, y * _SCALE) for x, y in corners], _INK, _SCALE)
        self.text(((left + right) / 2, bottom + 26), _AXIS, anchor="ma")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a value."""
        left, top, right, bottom = _FRAME
        across = (x - self.xs[0]) / ((self.xs[1] - self.xs[0]) or 1.0)
        up = (y - self.ys[0]) / ((self.ys[1] - self.ys[0]) or 1.0)
        return (left + across * (right - left)) * _SCALE, (bottom - up * (bottom - top)) * _SCALE

    def text(self, at: tuple[float, float], text: str, anchor: str) -> None:
        """Write at a place of the panel."""
        font = ImageFont.load_default(size=13 * _SCALE)
        self.draw.text((at[0] * _SCALE, at[1] * _SCALE), text, _INK, font, anchor=anchor)

    def line(self, points: Points) -> None:
        """Draw a line through values."""
        places = [self.place(*point) for point in points]
        self.draw.line(places, _BLUE, 2 * _SCALE, joint="curve")

    def dot(self, point: tuple[float, float], radius: float, color: str) -> None:
        """Draw a dot at a value."""
        self.draw.circle(self.place(*point), radius * _SCALE, color)

    def finished(self) -> Image.Image:
        """Return the panel in its own size."""
        return self.image.resize(_PANEL, Image.Resampling.LANCZOS)


def _line_panel(line: Line, title: str) -> Image.Image:
    axes = _Axes(title, [step for step, _ in line], [value for _, value in line])
    axes.line(line)
    return axes.finished()


def _score_panel(curve: ScoreCurve, curves: Curves) -> Image.Image:
    final = [curve.final] if curve.final else []
    shown = [*curve.points, *final]
    ends = [end for point in shown for end in (point.interval or (point.value,))]
    title = f"{curve.name}, 0 to {curve.best:g}, with 95 % interval"
    axes = _Axes(title, [point.step for point in shown], ends + [point.value for point in shown])
    for point in shown:
        if point.interval is not None:
            places = [axes.place(point.step, end) for end in point.interval]
            axes.draw.line(places, _BAND, 6 * _SCALE)
    axes.line([(point.step, point.value) for point in curve.points])
    for point in curve.points:
        axes.dot((point.step, point.value), 4, _BLUE)
    for point in [p for p in curve.points if is_best(p, curves)] or final:
        what = "best" if point in curve.points else "at the end"
        axes.dot((point.step, point.value), 6, _GREEN)
        x, y = axes.place(point.step, point.value)
        is_right = x > _SCALE * (_FRAME[0] + _FRAME[2]) / 2
        side = -10 if is_right else 10
        at = (x / _SCALE + side, y / _SCALE - 10)
        axes.text(at, f"{what} {point.value:.4g}", anchor="rm" if is_right else "lm")
    return axes.finished()


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that span a range."""
    if low == high:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** floor(log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    first, last = floor(low / step), -floor(-high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
