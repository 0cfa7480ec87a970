"""The scores of a merge's trials outlive a kill; what is scored is not scored again."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from evaluation.answer_log import AnswerLog
from merging import trial as trial_module
from merging.trial import Candidate, Measured, Trial
from tasks.base import Dataset, Source
from tasks.registry import get_task

IDENTITY = {"mode": "ties"}


class Killed(BaseException):
    """Stands for what ends the process."""


def make_trial(folder: Path, *, resume: bool) -> Trial:
    digits = get_task("digits").load("val", Source())
    return Trial(
        checkpoint=None,  # type: ignore[arg-type]
        base=None,  # type: ignore[arg-type]
        datasets=[digits.subset(4, seed=0), digits.subset(5, seed=1)],
        settings={},
        batch_size=1,
        device="cpu",
        log=AnswerLog(folder, IDENTITY, resume=resume),
    )


CANDIDATES = [
    Candidate(name, onto, (), lambda _: torch.zeros(0))
    for name, onto in (("a", "original"), ("b", "original"), ("a on nf4", "nf4"))
]


def measure(
    trial: Trial, datasets: Sequence[Dataset], patch: pytest.MonkeyPatch, allowed: int
) -> tuple[dict[str, Measured], int, list[str]]:
    """Measure with a stand-in for the scores; what it gave, how often it scored, what it loaded."""
    scored, loaded = 0, []

    def headline(_: object, dataset: Dataset) -> tuple[float, tuple[float, float] | None]:
        nonlocal scored
        if scored == allowed:
            raise Killed
        scored += 1
        return len(dataset) / 3, None if len(dataset) == 4 else (0.1, len(dataset) / 7)

    patch.setattr(trial_module, "_headline", headline)
    patch.setattr(Trial, "_load", lambda _, onto: loaded.append(onto) or (None, {"digits": None}))
    found = trial.measure(CANDIDATES, datasets)
    return found, scored, loaded


@pytest.mark.parametrize("killed_after", range(6))
def test_a_killed_trial_scores_what_is_missing_and_nothing_else(
    killed_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_trial(tmp_path, resume=False)
    halves = [first.datasets[:1], first.datasets[1:]]  # both of one task, as `choose` has them
    try:
        for half in halves:
            measure(first, half, monkeypatch, min(killed_after, 3))
            killed_after -= 3
    except Killed:
        pass
    num_known = len(first.log.answers)  # type: ignore[union-attr]
    again = make_trial(tmp_path, resume=True)
    results = [measure(again, half, monkeypatch, 99) for half in halves]
    assert sum(scored for _, scored, _ in results) == 6 - num_known
    for (found, _, _), size in zip(results, (4, 5), strict=True):
        interval = None if size == 4 else (0.1, 5 / 7)
        expected = Measured({"digits": size / 3}, {"digits": interval})
        assert found == dict.fromkeys((c.name for c in CANDIDATES), expected)
    assert [loaded for _, _, loaded in [measure(again, h, monkeypatch, 0) for h in halves]] == [
        [],
        [],
    ]
