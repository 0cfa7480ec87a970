"""The demo's pages: base beside tuned of each task, and an index of all that was measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.json_files import read_json
from evaluation.index_page import INDEX, Entry, score_of, write_index
from evaluation.page_file import link_to
from evaluation.report_page import PAGE, join_pages
from models.run_record import evaluation_folder
from tasks.registry import get_task

BASE = "base"  # folder of the base's evaluation in the run of a task
_NOT_SCORED_BY_EVAL = {"shuffled": "images of other examples", "majority": "most frequent answer"}


def write_demo_pages(output_dir: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a page of base and tuned into each task's run, and the index of all.

    Args:
        output_dir: of the demo.
        rows: the tasks in summary.json.
    """
    entries: list[Entry] = []
    for row in rows:
        folder = output_dir / row["task"]
        tuned = evaluation_folder(folder, {}, row["task"], get_task(row["task"]).eval_splits[0])
        join_pages([folder / BASE, tuned], folder / PAGE)
        entries += _entries(row, output_dir, {BASE: folder / BASE, "fine-tuned": tuned})
    notes = [
        "Each name leads to the answers of base and fine-tuned, side by side.",
        "Images of other examples: the fine-tuned model is shown another picture than the question "
        "is about. What it scores so, it does not see.",
    ]
    write_index(output_dir / INDEX, "The demo: base and fine-tuned", entries, notes)


def _entries(
    row: Mapping[str, Any], output_dir: Path, scored: Mapping[str, Path]
) -> Iterator[Entry]:
    """What was measured on one task."""
    report = link_to(output_dir / row["task"] / PAGE, output_dir / INDEX)
    found = {name: score_of(read_json(folder / "metrics.json")) for name, folder in scored.items()}
    for key, name in _NOT_SCORED_BY_EVAL.items():
        found[name] = {
            "metric": row["metric"],
            "value": row[key],
            "num_examples": row["num_eval"],
        }
    for name, score in found.items():
        yield Entry(
            name=f"{row['task']}, {name}",
            settings={"task": row["task"], "answers of": name},
            state="measured",
            report=report if name in scored else None,
            **score,
        )
