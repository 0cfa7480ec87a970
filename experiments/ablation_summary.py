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
from experiments.ablation import Ablation, Run
from experiments.ablation_index import write_grid_index
from experiments.cell import METRICS
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
    """Write the state of every run as JSON, table, page and image; return the runs' rows."""
    from experiments.comparison_chart import draw_comparison

    rows = [_row(run, errors.get(run.name)) for run in grid]
    summary = {
        "experiment_name": ablation.experiment_name,
        "grid": msgspec.to_builtins(ablation),
        "runs": rows,
        "versions": versions(),
    }
    folder = ablation.folder
    write_json(folder / SUMMARY, summary, ensure_ascii=False)
    write_text(folder / "ablation_summary.csv", _as_csv(rows))
    write_grid_index(ablation, rows)
    if any(row["value"] is not None for row in rows):
        chart = io.BytesIO()
        draw_comparison(rows).save(chart, "PNG")
        write_chunks(folder / "comparison.png", [chart.getvalue()])
    return rows


def _row(run: Run, error: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": run.name,
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


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"] or {}))
    fixed = ("run", "model", "variant", "task", "status", "metric", "value")
    lines = [[*fixed, "low_95", "high_95", *names, "seconds", "error"]]
    for row in rows:
        low, high = row["interval_95"] or (None, None)
        metrics = [(row["metrics"] or {}).get(name) for name in names]
        cells = [row[name] for name in fixed]
        lines.append([*cells, low, high, *metrics, row["seconds"], row["error"]])
    return b"".join(map(csv_line, lines)).decode()


def summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as text for a terminal, the best of each task first."""
    lines = []
    for row in sorted(rows, key=lambda row: (row["task"], -(row["value"] or -1.0), row["run"])):
        if row["value"] is None:
            lines.append([row["run"], row["status"]])
            continue
        low, high = row["interval_95"] or (row["value"], row["value"])
        score = f"{row['metric']} {row['value']:.4g}  [{low:.4g}, {high:.4g}]"
        lines.append([row["run"], score])
    return align(lines, left=(0, 1))
