"""Progress bars: lines of tenths in a log, a bar on a terminal, which is left whole."""

import logging
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from common.progress import Bar
from tests.helpers import REPOSITORY

_WORK = """
import logging, sys
from common.progress import Bar
logging.basicConfig(level=logging.INFO, format="%(message)s")
with Bar("outer", 20, "steps") as outer:
    for _ in range(20):
        with Bar("inner", 2, "parts") as inner:
            inner.advance(2)
        outer.show(loss=0.5)
        outer.advance()
print("result", flush=True)
"""
_FAILS = _WORK.replace('print("result", flush=True)', "with Bar('last', 3): raise SystemExit(7)")
_LENDS = """
import subprocess
from common.progress import Bar, released
with Bar("outer", 2) as bar:
    with released():
        subprocess.run("echo child >&2", shell=True)
    bar.advance()
"""
_HIDE, _SHOW = b"\x1b[?25l", b"\x1b[?25h"


def lines_of(total: int, step: int, caplog: pytest.LogCaptureFixture, start: int = 0) -> list[str]:
    """What a bar says where there is no terminal, without the times."""
    with caplog.at_level(logging.INFO, "common"), Bar("work", total, "steps", start) as bar:
        for _ in range(start, total, step):
            bar.advance(step)
    return [record.getMessage().split(",")[0] for record in caplog.records]


def test_in_a_log_each_tenth_part_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    expected = [f"work: {number}/200 steps" for number in range(20, 201, 20)]
    assert lines_of(200, 1, caplog) == expected


def test_fewer_than_ten_units_are_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(3, 1, caplog) == ["work: 1/3 steps", "work: 2/3 steps", "work: 3/3 steps"]


def test_what_was_done_before_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(100, 10, caplog, start=80) == ["work: 90/100 steps", "work: 100/100 steps"]


@pytest.mark.parametrize(("is_long", "expected"), [(True, ["3/6", "6/6"]), (False, [])])
def test_inside_a_long_bar_another_says_something_every_ten_seconds(
    is_long: bool,
    expected: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("common.progress.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "common")
    with Bar("outer", 2, is_long=is_long), Bar("inner", 6) as inner:
        for _ in range(6):
            now[0] += 4.5  # 13.5 s is the first over ten, and 27 s the first over ten more
            inner.advance()
    counts = [record.getMessage().split()[1].rstrip(",") for record in caplog.records]
    assert counts == expected


def test_processes_beside_the_first_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    main, worker = pty.openpty()
    with os.fdopen(worker, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("RANK", "1")
        with Bar("work", 2) as bar:
            bar.advance()
        stream.write("end")
        stream.flush()
        assert os.read(main, 1000) == b"end"
    os.close(main)


def statuses(
    seconds: list[float], total: int, monkeypatch: pytest.MonkeyPatch, **how: Any
) -> list[str]:
    """What a bar says after each unit, which took these seconds."""
    now = [0.0]
    monkeypatch.setattr("common.progress.time.monotonic", lambda: now[0])
    found = []
    with Bar("work", total, "steps", **how) as bar:
        for took in seconds:
            now[0] += took
            bar.advance()
            found.append(bar.status().partition(", ")[2])
    return found


def test_the_first_unit_does_not_count_for_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses([26, 2, 2, 2, 3], 10, monkeypatch) == [
        "0:00:26",  # of one unit nothing is known of the others
        "0:00:28, 0:00:16 left",  # 8 more of 2 s
        "0:00:30, 0:00:14 left",
        "0:00:32, 0:00:12 left",
        "0:00:35, 0:00:12 left",  # the last three took 7 s: 5 more take 11.7 s
    ]


def test_of_several_slow_units_the_older_half_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = statuses([20, 10, 1, 1, 1, 1], 100, monkeypatch)
    assert said[3] == "0:00:32, 0:01:36 left"  # units 3 and 4 took 1 s each, and 96 are left
    assert said[5] == "0:00:34, 0:01:34 left"


def test_a_resumed_work_leaves_its_first_unit_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    said = statuses([26, 2, 2], 60, monkeypatch, start=50)
    assert said == ["0:00:26", "0:00:28, 0:00:16 left", "0:00:30, 0:00:14 left"]


def test_of_long_units_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses([600], 3, monkeypatch, is_long=True) == ["0:10:00, 0:20:00 left"]


def test_figures_stand_between_the_units_and_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("common.progress.time.monotonic", lambda: now[0])
    with Bar("work", 1_100, "steps", start=100) as bar:
        for number in (200, 300):
            now[0] += 20
            bar.move_to(number)
        bar.show(loss=0.123456)
        # 100 steps in 20 s: the other 800 take 160 s
        assert bar.status() == "300/1,100 steps, loss 0.1235, 0:00:40, 0:02:40 left"


def on_terminal(code: str, **environment: str) -> tuple[bytes, bytes, int]:
    """Run code with a terminal as standard error; what that got, standard output, exit code."""
    main, worker = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=worker,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )  # fmt: skip
    os.close(worker)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    output, _ = process.communicate()
    return shown, output, process.returncode


def test_on_a_terminal_a_bar_is_drawn_and_the_result_is_not_in_it() -> None:
    shown, output, code = on_terminal(_WORK)
    assert (output, code) == (b"result\n", 0)
    assert b"inner" in shown and b"20/20, loss 0.5" in shown and "━".encode() in shown
    assert b"\x1b[3" in shown  # a colour
    assert shown.count(_HIDE) == 1 and shown.rindex(_SHOW) > shown.rindex(_HIDE)


def test_without_colour_the_bar_has_none() -> None:
    shown, _, _ = on_terminal(_WORK, NO_COLOR="1")
    assert "━".encode() in shown and b"\x1b[3" not in shown and b"\x1b[38" not in shown


@pytest.mark.parametrize("terminal", ["dumb", "unknown", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(terminal: str) -> None:
    shown, _, _ = on_terminal(_WORK, TERM=terminal)
    lines = shown.splitlines()
    assert len(lines) == 10 and lines[0].startswith(b"outer: 2/20 steps, loss 0.5, ")
    assert b"\x1b" not in shown


def test_an_error_leaves_the_cursor_visible() -> None:
    shown, _, code = on_terminal(_FAILS)
    assert code == 7 and shown.rindex(_SHOW) > shown.rindex(_HIDE)


def test_another_process_has_the_terminal_to_itself_and_the_bar_returns() -> None:
    shown, _, code = on_terminal(_LENDS)
    before, child, after = shown.partition(b"child")
    assert code == 0 and child
    assert before.count(_HIDE) == before.count(_SHOW) == 1
    assert b"1/2" in after and after.rindex(_SHOW) > after.rindex(_HIDE)


def test_a_log_that_is_not_a_terminal_holds_no_escape_codes() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _WORK], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert b"\x1b" not in result.stderr and len(result.stderr.splitlines()) == 10


def test_one_module_makes_the_bars() -> None:
    packages = [
        "common",
        "evaluation",
        "experiments",
        "finetuning",
        "merging",
        "models",
        "palitune",
        "tasks",
    ]
    files = [file for name in packages for file in (REPOSITORY / name).rglob("*.py")]
    makers = [
        file.relative_to(REPOSITORY).as_posix()
        for file in files
        if "import tqdm" in (text := file.read_text()) or "rich.progress import" in text
    ]
    # the Hub's library takes the class of its bars
    assert sorted(makers) == ["common/progress.py", "tasks/hub_download.py"]
