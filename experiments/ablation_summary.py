"""The summary of a grid: JSON, CSV, page, terminal table and comparison image."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from common.files import write_chunks, write_text
from common.json_files import read_json, write_json
from common.terminal_table import align
from evaluation.provenance import versions
from experiments.ablation import Ablation
from experiments.ablation_index import write_grid_index
from experiments.cell import METRICS
from experiments.grid_runs import Run
from experiments.seed_means import best_first, group_seeds, spread
from tasks.tables import csv_line

SUMMARY = "ablation_summary.json"


def errors_before(summary: Path) -> dict[str, str | None]:
    """Return why runs failed, by name, as an earlier call with other runs recorded it."""
    if not summary.is_file():
        return {}
    rows = read_json(summary)["runs"]
    return {row["run"]: row["error"] for row in rows}


def write_summary(
    ablation: Ablation, grid: Sequence[Run], errors: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Write the state of every run as JSON, table, page and image; return the cells' rows."""
    from experiments.comparison_chart import draw_comparison

    rows = [_row(run, errors.get(run.name)) for run in grid]
    cells = group_seeds(rows)
    summary = {
        "experiment_name": ablation.experiment_name,
        "grid": msgspec.to_builtins(ablation),
        "runs": rows,
        "cells": cells,
        "versions": versions(),
    }
    folder = ablation.folder
    write_json(folder / SUMMARY, summary, ensure_ascii=False)
    write_text(folder / "ablation_summary.csv", _as_csv(cells))
    write_grid_index(ablation, cells, rows)
    if any(cell["value"] is not None for cell in cells):
        chart = io.BytesIO()
        draw_comparison(cells).save(chart, "PNG")
        write_chunks(folder / "comparison.png", [chart.getvalue()])
    return cells


def _row(run: Run, error: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": run.name,
        "cell": run.cell,
        "seed": run.seed,
        "settings": dict(run.settings),
        "is_base": run.is_base,
        "model": run.model,
        "variant": run.variant,
        "task": run.task,
        "status": "failed" if error else "not run",
        "error": error,
        **dict.fromkeys(("split", "num_examples", "metric", "value", "interval_95", "seconds")),
        "metrics": {},
    }
    file = run.folder / METRICS
    if file.is_file():
        found = read_json(file)
        row |= {key: found[key] for key in row.keys() & found.keys()}
        row |= {
            "status": "finished",
            "error": None,
            "interval_95": (found["uncertainty"] or {}).get("interval_95"),
        }
    return row


def _as_csv(cells: Sequence[Mapping[str, Any]]) -> str:
    """A line for each cell; of several seeds the means, the deviation and each seed's value."""
    settings, metrics, seeds = (_keys(cells, of) for of in ("settings", "metrics", "seeds"))
    own = ("model", "variant", "task", "status", "metric", "value")
    of_seeds = ["sd_over_seeds", "num_seeds", *(f"value_seed_{seed}" for seed in seeds)]
    head = ["run", *own, "low_95", "high_95", *(of_seeds if seeds else [])]
    lines = [[*head, *settings, *metrics, "seconds", "error"]]
    for cell in cells:
        line = [cell["run"], *(cell[name] for name in own), *(cell["interval_95"] or (None, None))]
        if seeds:
            line += [cell["sd_over_seeds"], cell["num_seeds"] if cell["seeds"] else None]
            line += [cell["seeds"].get(seed) for seed in seeds]
        line += [cell["settings"].get(name) for name in settings]
        line += [cell["metrics"].get(name) for name in metrics]
        lines.append([*line, cell["seconds"], cell["error"]])
    return b"".join(map(csv_line, lines)).decode()


def _keys(cells: Sequence[Mapping[str, Any]], of: str) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.get(of, ())))


def summary_table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the cells as text for a terminal, the best of each task first."""
    lines = []
    for cell in sorted(cells, key=best_first):
        if cell["value"] is None:
            lines.append([cell["run"], cell["status"]])
            continue
        values = [
            f"seed {seed}: {'-' if v is None else f'{v:.4g}'}" for seed, v in cell["seeds"].items()
        ]
        line = f"{cell['metric']} {cell['value']:.4g}  {spread(cell)}".rstrip()
        lines.append([cell["run"], "  ".join([line, ", ".join(values)]).rstrip()])
    return align(lines, left=(0, 1))
