"""The runs of a cell that differ in the seed alone, as one result: mean, deviation, each value."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any


def group_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each cell of a grid, in the order of their first runs.

    Its `value` and `metrics` are the means over the seeds that have a score. `sd_over_seeds` is
    the sample standard deviation (n - 1) of their values, known from two on. `interval_95` is of
    the examples of one run, so that a cell of several seeds has none.

    Args:
        rows: of the runs, as the summary has them.
    """
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    return [_cell(runs) for runs in cells.values()]


def _cell(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = next((run for run in runs if run["value"] is not None), runs[0])
    values = [run["value"] for run in runs if run["value"] is not None]
    seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
    kept = ("model", "variant", "task", "settings", "split", "num_examples", "metric")
    return {
        "run": first["cell"],
        **{key: first[key] for key in kept},
        "status": _status(runs),
        "error": "; ".join(_named(run) for run in runs if run["error"]) or None,
        "value": fmean(values) if values else None,
        "sd_over_seeds": stdev(values) if len(values) > 1 else None,
        "interval_95": first["interval_95"] if len(runs) == 1 else None,
        "num_seeds": len(values),
        "seeds": {str(run["seed"]): run["value"] for run in runs if run["seed"] is not None},
        "metrics": _means([run["metrics"] or {} for run in runs if run["value"] is not None]),
        "seconds": fmean(seconds) if seconds else None,
        "is_base": first["is_base"],
        "runs": [run["run"] for run in runs],
    }


def _status(runs: Sequence[Mapping[str, Any]]) -> str:
    """The state of a cell, which is that of its runs where it is one for all."""
    states = [run["status"] for run in runs]
    if len(set(states)) == 1:
        return str(states[0])
    num_finished = states.count("finished")
    return f"{num_finished} of {len(runs)} seeds" if num_finished else "failed"


def _named(run: Mapping[str, Any]) -> str:
    return str(run["error"] if run["seed"] is None else f"seed {run['seed']}: {run['error']}")


def _means(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each number that every run has; None of the others."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(name for run in metrics for name in run):
        values = [run.get(name) for run in metrics]
        known = [value for value in values if isinstance(value, int | float)]
        found[name] = fmean(known) if len(known) == len(values) else None
    return found


def spread(cell: Mapping[str, Any], form: str = ".4g") -> str:
    """Return what is known beside a cell's value, named: its interval, or deviation and seeds."""
    if cell["interval_95"]:
        low, high = cell["interval_95"]
        return f"[{low:{form}}, {high:{form}}]"
    if not cell["seeds"]:
        return ""
    num_seeds, num_known = len(cell["seeds"]), cell["num_seeds"]
    of = f"{num_known} of {num_seeds}" if num_known < num_seeds else str(num_known)
    seeds = f"{of} seed{'s'[: num_seeds > 1]}"
    deviation = cell["sd_over_seeds"]
    return f"({seeds})" if deviation is None else f"± {deviation:{form}} (sd over {seeds})"


def best_first(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key that sorts cells by task, then by value, those without one last."""
    value = cell["value"]
    return cell["task"], value is None, -(value or 0.0), cell["run"]
