"""The merges that a request asks for, and the settings that contradict each other."""

from pathlib import Path
from typing import Any

import pytest

from merging.request import MergeRequest, TrialRequest
from merging.settings import (
    AUTO_GRID,
    candidate_name,
    list_candidates,
    parse_rank,
    parse_tasks,
)
from tasks.base import Source, TaskSource
from tasks.registry import get_task


def asked(num_adapters: int = 2, evaluate: str | None = None, **given: Any) -> MergeRequest:
    """A merge of so many adapters, scored on a task where `evaluate` names one."""
    tasks = [] if evaluate is None else [TaskSource(get_task(evaluate), Source())]
    adapters = [Path(f"adapter{number}") for number in range(num_adapters)]
    trial = TrialRequest(tasks=tasks)
    return MergeRequest(base_model="tiny", adapters=adapters, trial=trial, **given)


def swept(grid: str, **given: Any) -> list[dict[str, Any]]:
    candidates, is_measured = list_candidates(asked(sweep=grid, evaluate="digits", **given))
    assert is_measured
    return candidates


def test_a_grid_leaves_out_settings_that_a_mode_does_not_have() -> None:
    assert swept("mode=linear,ties density=0.2,0.5 lambda=1") == [
        {"mode": "linear", "lam": 1.0},
        {"mode": "ties", "density": 0.2, "lam": 1.0},
        {"mode": "ties", "density": 0.5, "lam": 1.0},
    ]


def test_options_beside_a_grid_are_those_of_every_candidate_that_has_them() -> None:
    found = swept("mode=linear,slerp,ties lambda=0.5", density=0.2, t=0.1, weights=[2, 1])
    assert found == [
        {"mode": "linear", "lam": 0.5, "weights": [2, 1]},
        {"mode": "slerp", "lam": 0.5, "t": 0.1},
        {"mode": "ties", "lam": 0.5, "density": 0.2, "weights": [2, 1]},
    ]


def test_the_mode_may_come_from_its_option() -> None:
    expected = [{"mode": "ties", "density": 0.2}, {"mode": "ties", "density": 0.5}]
    assert swept("density=0.2,0.5", mode="ties") == expected


def test_auto_with_scores_tries_its_own_grid_with_what_is_given() -> None:
    candidates, is_measured = list_candidates(asked(evaluate="digits"))
    assert is_measured and candidates == list(AUTO_GRID)
    candidates, _ = list_candidates(asked(evaluate="digits", lam=0.6, density=0.4))
    # three lambdas of balanced and of tsv and two densities of ties become one each
    assert [candidate_name(candidate) for candidate in candidates] == [
        "linear lambda=0.6",
        "balanced lambda=0.6",
        "tsv lambda=0.6",
        "ties lambda=0.6 density=0.4",
        "dare_ties lambda=0.6 density=0.4",
        "core_ties lambda=0.6 density=0.4",
    ]


def test_without_scores_or_with_a_mode_there_is_one_merge() -> None:
    assert list_candidates(asked()) == ([{"mode": "auto"}], False)
    assert list_candidates(asked(1, evaluate="digits")) == ([{"mode": "linear"}], False)
    ties = asked(mode="ties", density=0.4, evaluate="digits")
    assert list_candidates(ties) == ([{"mode": "ties", "density": 0.4}], False)


def test_names_of_candidates_say_all_their_settings() -> None:
    settings = {"mode": "ties", "lam": 0.5, "weights": [2.0, 1.0]}
    assert candidate_name(settings) == "ties lambda=0.5 weights=2.0,1.0"


GRID = "mode=linear,ties lambda=0.5,1"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "axis and option": (
        {"sweep": GRID, "lam": 0.5},
        r"--sweep has lambda=0\.5,1 and --lambda is given beside it",
    ),
    "mode twice": ({"sweep": GRID, "mode": "ties"}, "--mode is given beside it"),
    "auto among the modes": ({"sweep": "mode=auto,ties"}, r"out of linear.* got 'auto'"),
    "no mode": ({"sweep": "lambda=0.5,1"}, "needs modes out of .* got none"),
    "empty": ({"sweep": ""}, "needs modes out of .* got none"),
    "an axis twice": ({"sweep": "mode=ties density=0.1 density=0.2"}, "each once; got density=0.2"),
    "unknown axis": ({"sweep": "mode=ties lam=1"}, "--sweep takes mode=….* got lam=1"),
    "no numbers": ({"sweep": "mode=ties density=a"}, "takes numbers for density, got a"),
    "out of range": ({"sweep": "mode=ties density=0.1,1.5"}, r"must be in \(0, 1\], got 1.5"),
    "an axis of no mode": ({"sweep": "mode=linear t=0.1"}, "t would change nothing: .*linear"),
    "an option of no candidate": ({"sweep": GRID, "t": 0.1}, "t would change .*linear, ties"),
    "an option that auto's grid has not": ({"t": 0.1}, "t would change nothing"),
    "renorm without weights": (
        {"mode": "balanced", "missing": "renorm"},
        "--missing renorm is a rule for weights, and balanced has none",
    ),
    "renorm in a sweep without weights": (
        {"sweep": "mode=balanced,tsv", "missing": "renorm"},
        "and balanced, tsv has none",
    ),
    "scope of no trimming": (
        {"mode": "dare_ties", "trim_scope": "adapter"},
        "--trim_scope adapter is for ties and magnitude_prune, and the mode is dare_ties",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_contradictions_and_options_without_effect_are_refused(name: str) -> None:
    given, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        list_candidates(asked(**{"evaluate": "digits", **given}))


@pytest.mark.parametrize(
    "given",
    [
        {"sweep": "mode=balanced,linear", "missing": "renorm"},
        {"sweep": "mode=linear,ties", "trim_scope": "adapter"},
        {"mode": "magnitude_prune", "trim_scope": "adapter"},
    ],
)
def test_an_option_that_some_candidate_has_is_taken(given: dict[str, Any]) -> None:
    assert list_candidates(asked(evaluate="digits", **given))[0]


def test_tasks_are_found_by_any_of_their_names() -> None:
    assert [task.name for task in parse_tasks("coco, digits")] == ["coco_captioning", "digits"]
    assert parse_tasks(None) == []


@pytest.mark.parametrize(("text", "rank"), [("full", "full"), ("16", 16), ("0.99", 0.99)])
def test_ranks_are_read(text: str, rank: object) -> None:
    assert parse_rank(text) == rank
