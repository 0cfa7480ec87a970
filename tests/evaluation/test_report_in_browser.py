"""The report's page in a real browser: every filter, key and sort, and nothing from outside."""

import csv
import time
from pathlib import Path
from typing import Any

import pytest

from evaluation.report_page import PAGE, join_pages
from tests.evaluation.evaluated import COLORS, example, save, save_pair
from tests.evaluation.shown import EVIL, Shown


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    output = folder / "ab.html"
    join_pages(save_pair(folder, 12), output)
    return output


def test_nothing_is_asked_from_outside_and_nothing_is_wrong(browser: Any, pair: Path) -> None:
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            shown = Shown(browser, pair, width, scheme)
            assert shown.page.locator("#cards img").count() == 12
            assert all(url.startswith(("file:", "data:")) for url in shown.asked)
            assert [url for url in shown.asked if url.startswith("file:")] == [pair.as_uri()]
            assert shown.errors == []
            wide = shown.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width
    alternatives = shown.page.locator("#cards img").evaluate_all("all => all.map(i => i.alt)")
    assert alternatives[0] == "Image of example 0"


# of 0 to 11 A is right on 0 3 6 9 and B on 0 2 4 6 8 10
@pytest.mark.parametrize(
    ("outcome", "ids"),
    [("Fixed 4", [2, 4, 8, 10]), ("Broken 2", [3, 9]), ("Both right 2", [0, 6])],
)
def test_outcomes_filter(browser: Any, pair: Path, outcome: str, ids: list[int]) -> None:
    shown = Shown(browser, pair)
    shown.page.get_by_role("button", name=outcome).click()
    assert shown.ids() == ids
    assert shown.count() == f"{len(ids)} of 12 examples"
    assert shown.reopened(browser, pair).ids() == ids
    shown.page.get_by_role("button", name=outcome).click()
    assert len(shown.ids()) == 12


def test_slices_filter_and_sort(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    first_kinds = "#slices tbody tr td:nth-child(2)"
    assert shown.page.locator(first_kinds).all_inner_texts() == ["other", "number"]  # worst fall
    shown.page.get_by_role("button", name="B - A").click()
    assert shown.page.locator(first_kinds).all_inner_texts() == ["number", "other"]
    shown.page.locator("#slices").get_by_role("button", name="other").click()
    assert shown.ids() == [1, 3, 5, 7, 9, 11]
    shown.page.get_by_role("button", name="Broken").click()
    assert shown.ids() == [3, 9]
    assert shown.reopened(browser, pair).ids() == [3, 9]
    shown.page.get_by_role("button", name="answer_type=other").click()
    shown.page.get_by_role("button", name="Clear").click()
    assert len(shown.ids()) == 12


def test_every_interval_is_shown_as_it_was_computed(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    lines = [
        row.locator("td").all_inner_texts() for row in shown.page.locator("#slices tbody tr").all()
    ]
    found = {line[1]: [line[place] for place in (4, 6, 8)] for line in lines}
    # B is right on all six even questions and on no odd one: 1 - 0.025 ** (1 / 6) = 0.45926
    assert [found[kind][1] for kind in ("number", "other")] == ["54.07 to 100", "0 to 45.93"]
    page = shown.page.evaluate("page")
    for part in page["slices"]:
        pairs = [*part["intervals"], part["difference_interval"]]
        texts = [text.replace("+", "").split(" to ") for text in found[part["kind"]]]
        assert [[float(text) for text in pair] for pair in texts] == [
            pytest.approx(pair, rel=1e-3) for pair in pairs
        ]


def test_text_score_and_order(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    page = shown.page
    page.get_by_label("Search").fill("NUMBER 1")
    assert shown.ids() == [1, 10, 11]
    page.get_by_label("Score from").fill("50")
    assert shown.ids() == [10]
    assert shown.reopened(browser, pair).ids() == [10]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("to", exact=True).fill("0")
    assert shown.ids() == [1, 3, 5, 7, 9, 11]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Sort").select_option("fall")
    assert shown.ids()[:2] == [3, 9]
    page.get_by_label("Sort").select_option("rise")
    assert shown.ids()[:4] == [2, 4, 8, 10]
    page.get_by_label("Sort").select_option("low")
    assert shown.ids()[:6] == [1, 3, 5, 7, 9, 11]
    page.get_by_label("Sort").select_option("high")
    assert shown.ids()[:6] == [0, 2, 4, 6, 8, 10]


def test_another_pair_is_compared(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    shown.page.get_by_label("Compare").select_option(label="B")
    shown.page.get_by_label("with").select_option(label="A")
    shown.page.get_by_role("button", name="Fixed 2").click()
    assert shown.ids() == [3, 9]


def test_keys_move_and_the_address_keeps_the_place(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    page = shown.page
    for key in "jjjk":
        page.keyboard.press(key)
    current = page.locator("#cards > li.current .tags span:first-child")
    assert current.inner_text() == "id: 1"
    assert shown.reopened(browser, pair).page.locator("#cards > li.current").count() == 1
    page.keyboard.press("/")
    page.keyboard.type("jk")  # is text now
    assert page.get_by_label("Search").input_value() == "jk"


def test_the_rows_can_be_saved(browser: Any, pair: Path) -> None:
    shown = Shown(browser, pair)
    shown.page.get_by_role("button", name="Both right").click()
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Save CSV").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["prediction_B"], row["raw_prediction_B"]) for row in rows] == [
        ("0", "red", " red\n"),
        ("6", "red", " red\n"),
    ]
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name="Save JSON").click()
    assert '"score_B": 100' in Path(download.value.path()).read_text("utf-8")


def test_a_text_of_a_model_or_a_data_set_is_text(browser: Any, tmp_path: Path) -> None:
    asked = [example(0, EVIL, *(EVIL,) * 10), example(1, "javascript:window.hacked = 1")]
    save(tmp_path / "A", [EVIL, "red"], asked)
    shown = Shown(browser, tmp_path / "A" / PAGE)
    shown.page.locator("#cards h3").first.wait_for()
    assert shown.page.locator("#cards h3").all_inner_texts() == [EVIL, asked[1].turns[-1].text]
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.locator("a[href^='javascript' i]").count() == 0
    assert shown.errors == []


def test_twenty_thousand_examples_answer_a_filter_within_a_second(
    browser: Any, tmp_path: Path
) -> None:
    examples = [example(number) for number in range(20_000)]
    answers = [COLORS[0]] * len(examples)
    save(tmp_path / "A", answers, examples)
    shown = Shown(browser, tmp_path / "A" / PAGE)
    assert shown.count() == "20000 of 20000 examples"
    start = time.monotonic()
    shown.page.get_by_label("Search").fill("number 19999")
    assert shown.count() == "1 of 20000 examples"
    assert time.monotonic() - start < 1
    shown.page.get_by_role("button", name="Clear").click()
    shown.page.get_by_role("button", name="Show more").click()
    assert len(shown.ids()) == 100
