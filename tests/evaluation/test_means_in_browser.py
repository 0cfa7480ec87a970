"""The index of a grid with seeds and a base, in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.index_page import INDEX, Entry, Member, write_index
from tests.evaluation.shown import Shown


def member(name: str, value: float | None, report: str | None) -> Member:
    state = "failed" if value is None else "finished"
    return Member(name=name, value=value, interval=None, state=state, report=report)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks of two seeds, of one of which a seed failed, and the base."""
    output = tmp_path_factory.mktemp("means") / INDEX
    (output.parent / "one.html").write_text("a page")
    whole = [member("seed 1", 20.0, "one.html"), member("seed 2", 26.0, "one.html")]
    torn = [member("seed 1", 30.0, "one.html"), member("seed 2", None, None)]
    common = {"metric": "accuracy", "num_examples": 9}
    # 23 is the mean of 20 and 26, and 3 * sqrt(2) = 4.243 their sample deviation
    write_index(
        output,
        "A grid",
        [
            Entry(name="base", settings={"variant": "base"}, state="finished", value=5.0,
                  interval=(4.0, 6.0), is_reference=True, **common),
            Entry(name="r2", settings={"variant": "v", "r": 2}, state="finished", value=23.0,
                  members=whole, deviation=18**0.5, **common),
            Entry(name="r4", settings={"variant": "v", "r": 4}, state="1 of 2 seeds", value=30.0,
                  members=torn, **common),
        ],
    )  # fmt: skip
    return output


def test_a_mean_has_its_deviation_and_each_seed_a_link(browser: Any, index: Path) -> None:
    shown = Shown(browser, index)
    assert shown.errors == []
    head = shown.page.locator("#all thead th").all_inner_texts()
    places = [head.index(title) for title in ("value", "sd over seeds", "95 % interval")]
    lines = [
        [row.locator("th, td").nth(place).inner_text() for place in places]
        for row in shown.page.locator("#all tbody tr").all()
    ]
    dash = "\N{EN DASH}"
    assert lines == [["5", dash, "4 to 6"], ["23", "4.243", ""], ["30", dash, ""]]
    seeds = shown.page.locator("#all details")
    assert seeds.locator("summary").all_inner_texts() == ["2 of 2", "1 of 2"]
    seeds.nth(1).locator("summary").click()
    assert seeds.nth(1).locator("div").all_inner_texts() == ["seed 1: 30", "seed 2: failed"]
    assert seeds.locator("a").count() == 3


def test_a_base_has_no_square_of_a_map_and_a_mean_says_its_seeds(browser: Any, index: Path) -> None:
    panel = Shown(browser, index).page.locator(".panel")
    assert [text.split("\n") for text in panel.locator("tbody td").all_inner_texts()] == [
        ["23", "± 4.243 sd, 2 seeds"],
        ["30", "1 of 2 seeds"],
    ]
    assert panel.locator("thead th").all_inner_texts()[1:] == ["2", "4"]
