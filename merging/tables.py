"""Scores of merges as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from common.terminal_table import align


def score_table(
    metrics: Mapping[str, str],
    scores: Mapping[str, Mapping[str, float]],
    retention: Mapping[str, Mapping[str, float | None]],
    intervals: Mapping[str, Mapping[str, tuple[float, float] | None]] | None = None,
) -> str:
    """Write scores, their 95 % intervals where known, and in brackets what is retained.

    Args:
        metrics: task -> name of its headline.
        scores: name of what was scored -> task -> headline.
        retention: the same -> share of the score of the task's own adapter; rows may be left out.
        intervals: the same -> lower and upper end.
    """
    rows = [["", *(f"{task} {metric}" for task, metric in metrics.items())]]
    for name, row in scores.items():
        cells = [name]
        for task, value in row.items():
            cell = f"{value:.2f}"
            interval = intervals[name][task] if intervals else None
            if interval:
                cell += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
            if name in retention:
                cell += f" ({share(retention[name][task])})"
            cells.append(cell)
        rows.append(cells)
    return align(rows)


def sweep_table(sweep: Mapping[str, Any]) -> str:
    """Return what each candidate retains of each task, and the choice confirmed elsewhere.

    Args:
        sweep: what `merging.trial.choose` gives.
    """
    rows = [["candidate", *sweep["confirmed"]["retention"], "worst", "mean"]]
    for row in [*sweep["candidates"], sweep["confirmed"]]:
        shares = [*row["retention"].values(), row["worst"], row["mean"]]
        rows.append([row["name"], *map(share, shares)])
    rows[-1][0] = f"{sweep['chosen']}, confirmed"
    sizes = [
        " and ".join(f"{number} examples of {task}" for task, number in sweep[key].items())
        for key in ("num_choosing", "num_confirming")
    ]
    return (
        f"Retention by {sizes[0]}:\n{align(rows)}\n"
        f"Chosen: {sweep['chosen']}; confirmed by the other {sizes[1]}."
    )


def evaluation_table(evaluation: Mapping[str, Any]) -> str:
    """Return the scores of base, adapters and merge, and the merge's gap between both bases.

    Args:
        evaluation: what `merging.scores.evaluate` gives.
    """
    parts = (evaluation[key] for key in ("metrics", "scores", "retention", "intervals_95"))
    gaps = ", ".join(f"{task} {gap:+.2f}" for task, gap in evaluation["onto_gap"].items())
    return f"{score_table(*parts)}\ngap of the merge, original less NF4: {gaps}"


def share(value: float | None) -> str:
    """Write a share for people; `-` where it is not known."""
    return "-" if value is None else f"{value:.2f}"
