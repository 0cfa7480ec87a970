"""The report's page with texts and images of every shape: all of each is seen, as it is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from evaluation.report_page import PAGE, join_pages
from tasks.images import ArrayImage
from tests.evaluation.evaluated import example, save, save_pair
from tests.evaluation.shown import Shown

HEBREW = "\u05d0\u05d3\u05d5\u05dd!"  # "red!", which is read from right to left


def test_a_text_from_right_to_left_stays_apart_from_its_score(browser: Any, tmp_path: Path) -> None:
    save(tmp_path / "A", [HEBREW], [example(0, HEBREW, *(HEBREW,) * 10)])
    page = Shown(browser, tmp_path / "A" / PAGE).page
    texts = page.locator("#cards bdi", has_text=HEBREW)
    # the question, the answer, what was generated, and the reference
    assert texts.count() == 4
    box, score = texts.nth(1).bounding_box(), page.locator("#cards .score").bounding_box()
    assert box["x"] + box["width"] <= score["x"]
    # the sign that ends the text is at its left, and not beside the score
    end = "node => { const r = document.createRange(); r.setStart(node.firstChild, 4);"
    end += " r.setEnd(node.firstChild, 5); return r.getBoundingClientRect().x; }"
    assert texts.nth(1).evaluate(end) == pytest.approx(box["x"], abs=1)


def test_an_empty_answer_is_said_to_be_one(browser: Any, tmp_path: Path) -> None:
    save(tmp_path / "A", [""], [example(0)])
    page = Shown(browser, tmp_path / "A" / PAGE).page
    assert page.locator("#cards dd").first.inner_text() == "(empty) 0"


def test_a_thin_image_keeps_its_proportions(browser: Any, tmp_path: Path) -> None:
    red = np.zeros((320, 8, 3), np.uint8)
    red[..., 0] = 200
    save(tmp_path / "A", ["red"], [replace(example(0), image=ArrayImage(red, "thin"))])
    page = Shown(browser, tmp_path / "A" / PAGE).page
    page.wait_for_function("document.querySelector('#cards img').complete")
    shot = Image.open(io.BytesIO(page.locator("#cards img").screenshot())).convert("RGB")
    is_red = [shot.getpixel((x, shot.height // 2))[1] < 90 for x in range(shot.width)]
    # 8 of 320 pixels at its full height, and none of the empty sides
    assert is_red[shot.width // 2] and 0 < sum(is_red) <= shot.height * 8 / 320 + 2


def test_a_button_that_filters_keeps_the_focus(browser: Any, tmp_path: Path) -> None:
    join_pages(save_pair(tmp_path, 12), tmp_path / "ab.html")
    page = Shown(browser, tmp_path / "ab.html").page
    focused = "document.activeElement.textContent"
    for place, name in (("#slices", "number"), ("#slices", "B - A"), ("#outcomes", "Fixed 4")):
        page.locator(place).get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == name
    page.get_by_label("Search").fill("number")
    assert page.evaluate("document.activeElement.name") == "text"


def test_what_has_no_score_is_last_in_either_order(browser: Any, tmp_path: Path) -> None:
    save(tmp_path / "A", ["red", "red", "blue"], [example(n) for n in range(3)])
    file = tmp_path / "A/predictions.jsonl"
    file.write_text(file.read_text().replace('"score":100.0', '"score":null', 1))
    join_pages([tmp_path / "A"], tmp_path / "page.html")
    shown = Shown(browser, tmp_path / "page.html")
    for order, ids in (("low", [1, 2, 0]), ("high", [2, 1, 0])):
        shown.page.get_by_label("Sort").select_option(order)
        assert shown.ids() == ids


def test_a_print_says_that_it_has_not_all_examples(browser: Any, tmp_path: Path) -> None:
    save(tmp_path / "A", ["red"] * 51, [example(n) for n in range(51)])
    page = Shown(browser, tmp_path / "A" / PAGE).page
    page.emulate_media(media="print")
    assert page.locator("#rest").inner_text().strip() == "The first 50 of 51 are shown."
    page.emulate_media(media="screen")
    page.get_by_role("button", name="Show more").click()
    assert not page.locator("#rest").is_visible()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.123456", "0.1235"),
        ("66.66666", "66.67"),
        ("100", "100"),
        ("999.96", "1000"),
        ("554697", "554697"),  # steps
        ("-12345.6", "-12346"),
    ],
)
def test_no_digit_before_the_point_is_lost(
    browser: Any, tmp_path: Path, value: str, expected: str
) -> None:
    save(tmp_path / "A", ["red"], [example(0)])
    page = Shown(browser, tmp_path / "A" / PAGE).page
    assert page.evaluate(f"show({value})") == expected
