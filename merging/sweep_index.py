"""A sweep as a page: every candidate with its scores and what it retains, by its settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.index_page import INDEX, Entry, Setting, write_index
from merging.tables import share


def write_sweep_index(sweep: Mapping[str, Any], metrics: Mapping[str, str], folder: Path) -> None:
    """Write the page into the folder of a merge.

    Args:
        sweep: what `merging.trial.choose` gives.
        metrics: the name of each task's.
        folder: takes index.html.
    """
    entries = [
        Entry(
            name=row["name"],
            settings={"task": task, **_settings(row["name"])},
            state="chosen" if row["name"] == sweep["chosen"] else "measured",
            metric=metrics[task],
            value=value,
            interval=row["intervals_95"][task],
            num_examples=sweep["num_choosing"][task],
            figures={"retention": row["retention"][task], "worst retention": row["worst"]},
        )
        for row in sweep["candidates"]
        for task, value in row["scores"].items()
    ]
    write_index(folder / INDEX, "Candidates of the merge", entries, _notes(sweep, metrics))


def _settings(name: str) -> dict[str, Setting]:
    """The settings in a candidate's name, as `merging.settings.candidate_name` makes it."""
    mode, *words = name.split(" ")
    settings: dict[str, Setting] = {"mode": mode}
    for word in words:
        key, text = word.split("=", 1)
        settings[key] = text if key == "weights" else float(text)
    return settings


def _notes(sweep: Mapping[str, Any], metrics: Mapping[str, str]) -> Sequence[str]:
    confirmed = sweep["confirmed"]
    found = []
    for task, value in confirmed["scores"].items():
        low, high = confirmed["intervals_95"][task] or (value, value)
        found.append(
            f"{task} {metrics[task]} {value:.4g} ({low:.4g} to {high:.4g}), retention "
            f"{share(confirmed['retention'][task])}, by {sweep['num_confirming'][task]} examples"
        )
    return [
        f"Chosen: {sweep['chosen']}, whose worst task retains most of the score of the task's own "
        "adapter.",
        f"Confirmed on the examples that did not choose: {'; '.join(found)}.",
        *sweep["notes"],
    ]
