"""Candidates of a merge that score by a table, and the table that is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from merging.trial import Candidate, Measured, Trial
from tasks.base import Dataset


def by_table(
    monkeypatch: pytest.MonkeyPatch, table: Mapping[str, Sequence[float]]
) -> list[set[Any]]:
    """Let candidates score by a table, by how their names begin; the ids scored on, per call."""
    seen: list[set[Any]] = []

    def measure(
        self: Trial, candidates: Sequence[Candidate], datasets: Sequence[Dataset] | None = None
    ) -> dict[str, Measured]:
        chosen = datasets or self.datasets
        seen.append({example.example_id for example in chosen[0]})
        names = [dataset.task.name for dataset in chosen]
        assert len({c.name for c in candidates}) == len(candidates)
        found = {}
        for c in candidates:
            row = table[max((key for key in table if c.name.startswith(key)), key=len)]
            scores = dict(zip(names, row, strict=True))
            ends = {name: (value / 2, 2 * value) for name, value in scores.items()}
            found[c.name] = Measured(scores, ends)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(Trial, "measure", measure)
    return seen


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]
