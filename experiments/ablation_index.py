"""The index of a grid: every cell with its settings, its score and a link to its answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.json_files import read_json
from evaluation.index_page import INDEX, Entry, Member, plain, score_of, write_index
from evaluation.page_file import check_page, link_to
from evaluation.report_page import PAGE
from experiments.ablation import Ablation
from experiments.cell import METRICS
from experiments.training_options import own_name


def check_grid_index(ablation: Ablation) -> None:
    """Raise ValueError where a file that is no index stands in the place of the grid's."""
    check_page(ablation.folder / INDEX, "index", "move it, or change experiment_name.")


def write_grid_index(
    ablation: Ablation, cells: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write the index into the grid's folder.

    Args:
        ablation: the grid.
        cells: of it, as the summary has them.
        rows: of its runs, likewise.
    """
    output = ablation.folder / INDEX
    by_name = {row["run"]: row for row in rows}
    pages = {run: _report(ablation.folder / run, output) for run in by_name}
    entries = [
        _entry(ablation, cell, [by_name[run] for run in cell["runs"]], pages) for cell in cells
    ]
    missing = [row["run"] for row in rows if row["status"] != "finished"]
    notes = []
    if missing:
        notes.append(f"{len(missing)} of {len(rows)} runs are not finished: {', '.join(missing)}.")
    gone = [run for run in by_name if by_name[run]["value"] is not None and pages[run] is None]
    if gone:
        notes.append(
            f"No link leads to the answers of {', '.join(gone)}: they are gone, or of another "
            "evaluation since."
        )
    if ablation.seeds:
        notes.append(
            "A value is the mean over seeds, and sd over seeds the sample standard deviation of "
            "their values; a 95 % interval is over the examples of one run."
        )
    write_index(output, ablation.experiment_name, entries, notes)


def _entry(
    ablation: Ablation,
    cell: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pages: Mapping[str, str | None],
) -> Entry:
    members = [
        Member(
            name=f"seed {row['seed']}",
            value=row["value"],
            interval=row["interval_95"],
            state=row["status"],
            report=pages[row["run"]],
        )
        for row in rows
        if row["seed"] is not None
    ]
    return Entry(
        name=cell["run"],
        settings=plain(_settings(ablation, cell)),
        state=cell["status"],
        reason=cell["error"] or "",
        figures={"seconds": cell["seconds"]},
        report=None if members else pages[rows[0]["run"]],
        members=members,
        deviation=cell["sd_over_seeds"],
        is_reference=cell["is_base"],
        **score_of(cell),
    )


def _settings(ablation: Ablation, cell: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes a cell; of a base, which is not trained, what it is and how it is asked."""
    names = {name: cell[name] for name in ("task", "model", "variant")}
    if cell["is_base"]:
        return {**names, **cell["settings"]}
    variants = {variant.name: variant for variant in ablation.lora_variants}
    given = {**_given(variants[cell["variant"]]), **_given(ablation.training)}
    fixed = {name: given[name] for name in given if own_name(name) not in cell["settings"]}
    return {**names, **cell["settings"], **fixed}


def _given(settings: msgspec.Struct) -> dict[str, Any]:
    """What a part of the grid's file settles, its name apart."""
    found = msgspec.to_builtins(settings)
    return {name: found[name] for name in found if found[name] is not None and name != "name"}


def _report(folder: Path, output: Path) -> str | None:
    """The link to a run's page, which lies beside its predictions; None where it is of others."""
    if not (folder / METRICS).is_file():
        return None
    found = read_json(folder / METRICS)
    if (predictions := found.get("predictions")) is None:
        return None
    place = (folder / predictions).parent
    return link_to(place / PAGE, output) if _holds(place, found) else None


def _holds(place: Path, found: Mapping[str, Any]) -> bool:
    """Whether a folder still has the evaluation of a record, and no other one since."""
    try:
        now = read_json(place / "metrics.json")
    except (OSError, ValueError):
        return False
    return all(now.get(name) == found.get(name) for name in ("metric", "value", "num_examples"))
