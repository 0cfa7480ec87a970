"""The index of a grid: every cell with its settings, its score and a link to its answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.json_files import read_json
from evaluation.index_page import INDEX, Entry, plain, score_of, write_index
from evaluation.page_file import check_page, link_to
from evaluation.report_page import PAGE
from experiments.ablation import Ablation
from experiments.cell import METRICS


def check_grid_index(ablation: Ablation) -> None:
    """Raise ValueError where a file that is no index stands in the place of the grid's."""
    check_page(ablation.folder / INDEX, "index", "move it, or change experiment_name.")


def write_grid_index(ablation: Ablation, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the index into the grid's folder.

    Args:
        ablation: the grid.
        rows: of its runs, as the summary has them.
    """
    output = ablation.folder / INDEX
    variants = {variant.name: _given(variant) for variant in ablation.lora_variants}
    training = _given(ablation.training)
    entries = []
    for row in rows:
        names = {name: row[name] for name in ("task", "model", "variant")}
        entries.append(
            Entry(
                name=row["run"],
                settings=plain({**names, **variants[row["variant"]], **training}),
                state=row["status"],
                reason=row["error"] or "",
                figures={"seconds": row["seconds"]},
                report=_report(ablation.folder / row["run"], output),
                **score_of(row),
            )
        )
    missing = [row["run"] for row in rows if row["status"] != "finished"]
    notes = [f"{len(missing)} of {len(rows)} runs are not finished: {', '.join(missing)}."]
    write_index(output, ablation.experiment_name, entries, notes if missing else ())


def _given(settings: msgspec.Struct) -> dict[str, Any]:
    """What a part of the grid's file settles, its name apart."""
    found = msgspec.to_builtins(settings)
    return {name: found[name] for name in found if found[name] is not None and name != "name"}


def _report(folder: Path, output: Path) -> str | None:
    """The link to a run's page, which lies beside its predictions."""
    if not (folder / METRICS).is_file():
        return None
    predictions = read_json(folder / METRICS).get("predictions")
    return link_to((folder / predictions).parent / PAGE, output) if predictions else None
