"""The index in a real browser: its order, maps and links, and nothing from outside."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from evaluation.index_page import INDEX, Entry, write_index
from evaluation.page_file import link_to
from tests.evaluation.shown import EVIL, Shown

MISSING = "\N{EN DASH}"
# rank -> precision -> score of the task `gqa`
SCORES = {2: {"nf4": 10.0, "none": 30.25}, 10: {"nf4": None, "none": 20.0}, 9: {"none": 9.5}}


def entries(output: Path) -> list[Entry]:
    """A grid of rank and precision: one cell failed, one is missing, one task is apart."""
    found = []
    for rank, row in SCORES.items():
        for precision, value in row.items():
            report = output.parent / f"r {rank} #{precision}" / "report.html"
            if value is not None:
                report.parent.mkdir()
                report.write_text("a page")
            found.append(
                Entry(
                    name=f"r{rank}-{precision}",
                    settings={"task": "gqa", "r": rank, "precision": precision, "seed": 3},
                    state="failed" if value is None else "finished",
                    reason="Error: no memory." if value is None else "",
                    metric=None if value is None else "accuracy",
                    value=value,
                    interval=None if value is None else (value - 1, value + 1),
                    num_examples=None if value is None else 12345,
                    figures={"seconds": 60.5},
                    report=link_to(report, output),
                )
            )
    other = {"state": "finished", "metric": "anls"}
    for name, precision, value in ((EVIL, EVIL, 0.5), ("docvqa", "nf4", 0.25)):
        settings = {"task": "docvqa", "r": 2, "precision": precision}
        found.append(Entry(name=name, settings=settings, value=value, reason=name, **other))
    return found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("index") / INDEX
    write_index(output, f"A grid {EVIL}", entries(output), ["One cell is missing."])
    return output


def column(shown: Shown, title: str) -> list[str]:
    """The texts of a column of the table, from top to bottom."""
    heads = shown.page.locator("#all thead th").all_inner_texts()
    place = [head.rstrip(" ↑↓") for head in heads].index(title) + 1
    return list(shown.page.locator(f"#all tbody tr > :nth-child({place})").all_inner_texts())


def test_nothing_is_asked_from_outside_runs_or_sticks_out(browser: Any, index: Path) -> None:
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            shown = Shown(browser, index, width, scheme)
            assert shown.asked == [index.as_uri()]
            assert shown.errors == []
            assert shown.page.evaluate("window.hacked") is None
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert EVIL in shown.page.locator("h1").inner_text()
    assert EVIL in column(shown, "name")
    assert EVIL in column(shown, "precision")


def test_the_table_says_every_number_and_every_reason(browser: Any, index: Path) -> None:
    shown = Shown(browser, index)
    assert column(shown, "value") == ["10", "30.25", MISSING, "20", "9.5", "0.5", "0.25"]
    assert column(shown, "95 % interval")[:3] == ["9 to 11", "29.25 to 31.25", ""]
    assert column(shown, "examples")[0] == "12345"
    assert column(shown, "state")[2] == "failed\nError: no memory."
    assert column(shown, "seconds")[0] == "60.5"
    assert "One cell is missing." in shown.page.locator("#notes").inner_text()
    # one value of `seed`: no column, but said
    assert "seed" not in shown.page.locator("#all thead").inner_text()
    assert shown.page.locator("#same tbody").text_content() == "seed3"


def test_a_long_reason_does_not_push_the_other_lines_away(browser: Any, tmp_path: Path) -> None:
    reason = "Error: no memory. " * 100
    write_index(
        tmp_path / INDEX, "One", [Entry(name="a", settings={}, state="failed", reason=reason)]
    )
    shown = Shown(browser, tmp_path / INDEX)
    assert column(shown, "state")[0].startswith("failed\nError: no memory. Error")
    box = shown.page.locator("#all tbody tr").bounding_box()
    assert box is not None and box["height"] < 150


def test_a_column_sorts_by_mouse_and_key_and_what_is_missing_stays_last(
    browser: Any, index: Path
) -> None:
    shown = Shown(browser, index)
    shown.page.get_by_role("button", name="value").click()
    assert column(shown, "value") == ["30.25", "20", "10", "9.5", "0.5", "0.25", MISSING]
    shown.page.keyboard.press("Enter")  # the button keeps the focus
    assert column(shown, "value") == ["0.25", "0.5", "9.5", "10", "20", "30.25", MISSING]
    assert shown.page.locator("#all th[aria-sort=ascending]").inner_text().startswith("value")
    shown.page.get_by_role("button", name="r", exact=True).click()
    assert column(shown, "r") == ["2", "2", "2", "2", "9", "10", "10"]  # numbers, not letters


def squares(shown: Shown, task: str) -> list[list[str]]:
    panel = shown.page.locator(".panel", has_text=f"task {task}")
    rows = panel.locator("tbody tr")
    return [rows.nth(place).locator("th, td").all_inner_texts() for place in range(rows.count())]


def test_the_heat_map_is_of_two_settings_and_one_for_each_task(browser: Any, index: Path) -> None:
    shown = Shown(browser, index)
    down, across, colour = (
        shown.page.locator(f"select[name={name}]") for name in ("down", "across", "colour")
    )
    assert sorted([down.input_value(), across.input_value()]) == ["precision", "r"]
    down.select_option("r")
    across.select_option("precision")
    lines = squares(shown, "gqa")
    assert [line[0] for line in lines] == ["2", "9", "10"]
    # columns by their names: EVIL, nf4, none
    assert [line[2].split("\n")[0] for line in lines] == ["10", "not there", "failed"]
    assert [line[3].split("\n") for line in lines] == [
        ["30.25", "29.25 to 31.25"],
        ["9.5", "8.5 to 10.5"],
        ["20", "19 to 21"],
    ]
    share = "td => [parseFloat(td.innerText), parseFloat(td.style.getPropertyValue('--share'))]"
    cells = shown.page.locator(".panel td[style]")
    depth = dict(cells.evaluate_all(f"all => all.map({share})"))
    assert depth[9.5] < depth[10] < depth[20] < depth[30.25]
    colour.select_option("seconds")
    assert squares(shown, "gqa")[0][2] == "60.5"
    across.select_option("r")  # one setting is one axis
    assert down.input_value() == ""


def test_every_link_leads_to_a_file(browser: Any, index: Path) -> None:
    shown = Shown(browser, index)
    links = shown.page.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert len(links) == 8  # four scored cells, in the map and in the table
    for link in links:
        assert Path(unquote(urlparse(link).path)).read_text() == "a page"
