"""The part of a report's page on the training, in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from evaluation.report_page import PAGE, join_pages
from tests.evaluation.evaluated import COLORS, save_run
from tests.evaluation.shown import Shown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("trained") / "run")


def test_the_curves_and_the_watched_answers_are_shown(browser: Any, run: Path) -> None:
    shown = Shown(browser, run / "evaluation" / "val" / PAGE)
    curves = shown.page.locator("#training .curves svg")
    says = curves.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert says == [
        "vqa_accuracy: 50 at step 2, best 100 at step 4",
        "loss (nats): 4 at step 1, 1 at step 4",
        "learning rate: 0.001 at step 1, 0.00025 at step 4",
        "gradient norm, before clipping: 2 at step 1, 2 at step 4",
    ]
    # steps 0 to 4 lie on x 56 to 388, and 40 to 120, the ticks around 40 to 110, on y 196 to 14:
    # 50 is at 196 - 182 * 10 / 80, and 100 at 196 - 182 * 60 / 80
    points = str(curves.nth(0).locator("polyline.line").get_attribute("points"))
    assert points == "222,173.25 388,59.5"
    cards = shown.page.locator("#training .watched > li")
    assert cards.count() == 8
    last = cards.nth(7)
    assert last.locator("th").all_inner_texts() == ["step 2", "step 4", "this evaluation"]
    right = f"{COLORS[7 % 3]} 100"
    assert last.locator("td").all_inner_texts() == ["none <b> 0", right, right]
    assert last.locator("img").get_attribute("alt") == "Image of example 7"


def test_the_training_fits_a_phone_without_a_fault(browser: Any, run: Path) -> None:
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            shown = Shown(browser, run / "evaluation" / "val" / PAGE, width, scheme)
            assert shown.errors == []
            assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
            assert len([url for url in shown.asked if not url.startswith("data:")]) == 1


def test_a_joined_page_shows_the_training_of_each_run(
    browser: Any, run: Path, tmp_path: Path
) -> None:
    other = save_run(tmp_path / "other", num_steps=2)
    join_pages([run, other], tmp_path / "both.html")
    shown = Shown(browser, tmp_path / "both.html")
    assert shown.page.locator("#training h2").all_inner_texts() == [
        "Training of A",
        "Training of B",
    ]
    assert shown.errors == []


def test_what_was_measured_once_is_told_in_words_and_is_no_curve(
    browser: Any, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "once", num_steps=3)  # scored at step 2 alone
    shown = Shown(browser, run / "evaluation" / "val" / PAGE)
    titles = shown.page.locator("#training figcaption").all_inner_texts()
    assert titles == ["loss (nats)", "learning rate", "gradient norm, before clipping"]
    # of eight answers at step 2 of 3: 100 * 2 / 3
    notes = shown.page.locator("#training > .quiet").all_inner_texts()
    assert notes == ["vqa_accuracy: 66.67 at step 2."]
    shown.page.get_by_text("Scores as a table").click()
    row = shown.page.locator("#training > details").first.locator("tbody tr").inner_text()
    assert row.split()[:3] == ["vqa_accuracy", "2", "66.67"]
    assert shown.errors == []


def test_a_training_of_one_logged_step_has_no_chart(browser: Any, tmp_path: Path) -> None:
    run = save_run(tmp_path / "short", num_steps=1)
    shown = Shown(browser, run / "evaluation" / "val" / PAGE)
    assert shown.page.locator("#training svg").count() == 0
    assert shown.page.locator("#training > .quiet").all_inner_texts() == ["Loss 4 at step 1."]
    assert shown.errors == []


def test_long_lines_are_thinned_and_that_is_said(run: Path, tmp_path: Path) -> None:
    page = join_pages([save_run(tmp_path / "long", num_steps=2500)], tmp_path / "long.html")
    (training,) = page.trainings
    # 2500 values are over 1000: every third, and the last one
    assert training.curves is not None
    assert [step for step, _ in training.curves.loss[:3]] == [1, 4, 7]
    assert training.curves.loss[-1][0] == 2500
    assert training.notes == ["The lines show one of 3 logged values."]
