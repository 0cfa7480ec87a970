"""What a merge retains, and which one is chosen by that."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merging.sweep_chart import draw_sweep
from merging.tables import score_table
from merging.trial import Candidate, Trial, _added, choose, retention
from tasks.base import Source
from tasks.registry import get_task
from tests.merging.algebra.make_adapters import load_tiny
from tests.merging.merge_inputs import Q0
from tests.merging.merge_tables import by_table


def test_retention_is_the_share_of_the_score_of_the_tasks_own_adapter() -> None:
    scores = {"a": {"x": 50.0, "y": 1.0}, "b": {"x": 10.0, "y": 4.0}, "m": {"x": 40.0, "y": 3.0}}
    kept = retention(scores, {"x": ["a"], "y": ["a", "b"]})
    assert kept["m"] == {"x": 0.8, "y": 0.75}
    assert kept["b"] == {"x": 0.2, "y": 1.0}


def test_of_an_own_score_of_nothing_no_share_is_known() -> None:
    scores = {"a": {"x": 0.0, "y": 4.0}, "m": {"x": 3.0, "y": 3.0}}
    kept = retention(scores, {"x": ["a"], "y": ["a"]})
    assert kept == {"a": {"x": None, "y": 1.0}, "m": {"x": None, "y": 0.75}}


def candidate(name: str) -> Candidate:
    return Candidate(name, "original", (), lambda _: torch.zeros(0))


@pytest.fixture
def trial(docvqa: Path) -> Trial:
    digits = get_task("digits").load("val", Source()).subset(10, seed=0)
    other = get_task("docvqa").load("val", Source(data_root=docvqa))
    return Trial(
        checkpoint=None,  # type: ignore[arg-type]
        base=None,  # type: ignore[arg-type]
        datasets=[digits, other],
        settings={},
        batch_size=1,
        device="cpu",
    )


OWNERS = {"digits": ["a"], "docvqa": ["b"]}
OWN = [candidate("a"), candidate("b")]


def test_the_merge_whose_worst_task_keeps_most_is_chosen_and_confirmed_on_other_examples(
    monkeypatch: pytest.MonkeyPatch, trial: Trial
) -> None:
    table = {"a": (100, 0), "b": (0, 100), "even": (60, 60), "better mean": (100, 40)}
    seen = by_table(monkeypatch, table)
    merges = [candidate("better mean"), candidate("even")]
    found = choose(trial, OWN, merges, OWNERS, seed=0)
    assert found["chosen"] == "even" == found["confirmed"]["name"]
    assert [(row["worst"], row["mean"]) for row in found["candidates"]] == [(0.4, 0.7), (0.6, 0.6)]
    choosing, confirming = seen
    assert not choosing & confirming
    assert choosing | confirming == {example.example_id for example in trial.datasets[0]}
    assert not found["notes"]


def test_a_task_whose_own_adapter_scores_nothing_has_no_say_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, trial: Trial
) -> None:
    by_table(monkeypatch, {"a": (0, 0), "b": (0, 100), "first": (90, 40), "second": (0, 60)})
    found = choose(trial, OWN, [candidate("first"), candidate("second")], OWNERS, seed=0)
    assert found["chosen"] == "second"
    assert found["confirmed"]["retention"] == {"digits": None, "docvqa": 0.6}
    assert (found["confirmed"]["worst"], found["confirmed"]["mean"]) == (0.6, 0.6)
    (note,) = found["notes"]
    assert note.startswith("digits has no say in the choice: its own adapter scores 0")
    assert draw_sweep(found).width > 300


def test_where_no_adapter_scores_there_is_nothing_to_choose_by(
    monkeypatch: pytest.MonkeyPatch, trial: Trial
) -> None:
    by_table(monkeypatch, {"a": (0, 0), "b": (0, 0), "first": (90, 40)})
    with pytest.raises(ValueError, match=r"No adapter scores above 0 .*\(digits, docvqa\)"):
        choose(trial, OWN, [candidate("first")], OWNERS, seed=0)


def test_the_image_is_greener_where_more_is_retained() -> None:
    def row(name: str, share: float | None) -> dict[str, Any]:
        worst = share or 0.0
        return {"name": name, "retention": {"x": share}, "worst": worst, "mean": worst}

    for share in (0.0, 0.5, 1.0, 1.7, None):
        image = draw_sweep({"candidates": [row("m", share)], "chosen": "m"})
        # column x begins 240 + gap pixels left of the right margin; row 2; a corner has no text
        red = image.getpixel((image.width - 12 - 2 * 120 + 116, 2 * 28 + 3))[0]  # type: ignore[index]
        kept = min(share or 0.0, 1.0)
        assert red == round(255 - kept * (255 - 90))


def test_updates_are_added_in_memory_and_taken_off_again() -> None:
    model = load_tiny()
    before = model.get_submodule(Q0).weight.detach().clone()
    update = torch.full_like(before, 0.5)
    with _added(model, Candidate("m", "original", [Q0], lambda _: update)):
        torch.testing.assert_close(model.get_submodule(Q0).weight.data, before + 0.5)
    assert torch.equal(model.get_submodule(Q0).weight, before)


def test_a_table_has_score_interval_and_share_in_columns() -> None:
    text = score_table(
        {"x": "accuracy"},
        {"base": {"x": 1.0}, "m": {"x": 20.0}},
        {"m": {"x": None}},
        {"base": {"x": None}, "m": {"x": (5.0, 35.5)}},
    )
    # 4 for the names, 2 between, 23 for the longest cell
    assert text.splitlines() == [
        " " * 19 + "x accuracy",
        "base" + " " * 21 + "1.00",
        "m     20.00 [5.00, 35.50] (-)",
    ]
