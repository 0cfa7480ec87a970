"""Progress bars: drawn on a terminal, and elsewhere a line for each tenth part."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from common import processes

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

_TENTHS = 10
_SECONDS_BETWEEN_DRAWINGS = 0.1
_SECONDS_BETWEEN_INNER_LINES = 10

_open: list["Bar"] = []  # the outermost first
_screen: "Progress | None" = None


class Bar:
    """The progress of a piece of work; a context manager, which leaves the terminal whole.

    Of bars inside each other all are drawn on a terminal, and the outermost stays there. Elsewhere
    the outermost says something, and where its units are long those inside it, now and then.
    Nothing is shown by processes beside the first.

    Args:
        label: what is done, and on what.
        total: number of units of the whole work.
        unit: their name.
        start: number of units that were done before.
        is_long: whether a unit takes so long that the bars inside say something too.
    """

    def __init__(
        self, label: str, total: int, unit: str = "", start: int = 0, *, is_long: bool = False
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.start = self.done = start
        self.figures: dict[str, str] = {}
        self.is_long = is_long
        self._began = self._said = time.monotonic()
        self._moves = deque([(start, self._began)])  # the newer half of the work, with its begin
        self._drawn = 0.0
        self._row: Any = None

    def __enter__(self) -> Self:
        """Open the bar."""
        self._began = self._said = time.monotonic()
        self._moves = deque([(self.done, self._began)])
        _open.append(self)
        if processes.rank() == 0 and is_terminal():
            screen = _shared_screen()
            text = self.status(is_short=True)
            self._row = screen.add_task(
                self.label, total=self.total, completed=self.done, status=text
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bar."""
        self.close()

    def advance(self, number: int = 1) -> None:
        """Count units that are done."""
        self.move_to(self.done + number)

    def move_to(self, done: int) -> None:
        """Say how many units are done by now, those before the start among them."""
        before, self.done = self.done, done
        self._moves.append((done, time.monotonic()))
        while len(self._moves) > 2 and 2 * (self._moves[1][0] - self.start) <= done - self.start:
            self._moves.popleft()
        if self._row is not None:
            if done >= self.total or time.monotonic() - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
                self._draw()
        elif processes.rank() > 0:
            return  # one speaks for all
        elif self._tenth(done) > self._tenth(before) and self._speaks():
            self._said = time.monotonic()
            logger.info("%s: %s", self.label, self.status())

    def show(self, **figures: float) -> None:
        """Show the newest figures beside the bar, by their names."""
        self.figures |= {name: f"{value:.4g}" for name, value in figures.items()}
        if self._row is not None:
            self._draw()

    def status(self, *, is_short: bool = False) -> str:
        """Return the units done, the figures, the time taken and the time left.

        Args:
            is_short: leave out the unit's name, and the time taken while the work goes on.
        """
        seconds = time.monotonic() - self._began
        count = f"{self.done:,}/{self.total:,}"
        parts = [count if is_short or not self.unit else f"{count} {self.unit}"]
        parts += [f"{name} {value}" for name, value in self.figures.items()]
        if not is_short or self.done >= self.total:
            parts.append(_duration(seconds))
        left = self._left()
        if left is not None:
            parts.append(f"{_duration(left)} left")
        return ", ".join(parts)

    def _left(self) -> float | None:
        """The seconds left by the newer half of the units that are done; None where none is known.

        The first unit alone tells little: it holds what is loaded and made ready once. Of long
        units that is a small part.
        """
        (first, began), (last, ended) = self._moves[0], self._moves[-1]
        if not first < last < self.total or (first == self.start and not self.is_long):
            return None
        return (ended - began) / (last - first) * (self.total - last)

    def close(self) -> None:
        """Leave the bar as it stands, if it is open; what is printed next begins a new line."""
        global _screen
        if self not in _open:
            return
        _open.remove(self)
        if self._row is None or _screen is None:
            return
        try:
            self._draw()
        finally:
            row, self._row = self._row, None
            if any(bar._row is not None for bar in _open):
                _screen.remove_task(row)
            else:
                _screen.stop()
                _screen = None

    def _speaks(self) -> bool:
        """Whether a line may be said: by the outermost always, by those inside it rarely."""
        if self not in _open:
            return False
        outer = _open[: _open.index(self)]
        if not outer:
            return True
        is_time = time.monotonic() - self._said >= _SECONDS_BETWEEN_INNER_LINES
        return is_time and all(bar.is_long for bar in outer)

    def _tenth(self, done: int) -> int:
        return done * _TENTHS // max(self.total, 1)

    def _draw(self) -> None:
        assert _screen is not None
        self._drawn = time.monotonic()
        text = self.status(is_short=True)
        _screen.update(self._row, completed=self.done, status=text, refresh=True)


@contextmanager
def released() -> Iterator[None]:
    """Leave the terminal to another process for as long as the block runs; bars return then."""
    screen = _screen
    if screen is None:
        yield
        return
    screen.live.transient = True
    screen.stop()
    try:
        yield
    finally:
        screen.live.transient = False
        screen.start()


def close_all() -> None:
    """Close whatever bars are open, the innermost first."""
    for bar in reversed(_open.copy()):
        bar.close()


def is_terminal() -> bool:
    """Return True where standard error is a terminal on which a bar can be drawn."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def is_drawing() -> bool:
    """Return True while a bar of ours is on the terminal, where another's would disturb it."""
    return _screen is not None


def _shared_screen() -> "Progress":
    """Return what draws all bars, begun with the first of them."""
    global _screen
    if _screen is None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        _screen = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(file=sys.stderr, force_terminal=True, force_jupyter=False),
            auto_refresh=False,  # a thread's locks would be copied into forked workers
            expand=True,
            redirect_stdout=sys.stdout.isatty(),  # results in a file are not for the terminal
        )
        _screen.start()
    return _screen


def _leave_in_child() -> None:
    """Let a forked worker write as it would without a bar, which is the parent's."""
    global _screen
    _open.clear()
    _screen = None
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, getattr(stream, "rich_proxied_file", stream))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_in_child)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
