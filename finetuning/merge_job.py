"""One merge from its options to its folder: read, check, choose, merge, write, report."""

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from finetuning import run_folder
from finetuning.merge_evaluation import (
    Inputs,
    evaluate,
    load_datasets,
    make_trial,
    retention_table,
    sweep_grid,
    trained_onto,
)
from finetuning.merge_settings import AUTO_GRID, parse_grid, parse_rank, parse_weights
from finetuning.provenance import trained_on, versions
from finetuning.sweep_picture import draw_sweep
from merging import report
from merging.adapters import (
    check_low_rank_only,
    check_same_base,
    check_shapes,
    read_adapter,
)
from merging.base import open_base
from merging.export import Figures, Progress, diagnose, export_adapter, export_model
from merging.full_model import ExportReport, Onto
from merging.merge import Merge, Rank, start_merge
from merging.methods import DENSE, default_options
from merging.staging import appearing_whole, check_output
from models.checkpoint import resolve
from tasks.files import write_text

_REPORT = "merge_report.json"
_SETTINGS = ("mode", "weights", "lam", "density", "t")


def merge(values: Mapping[str, Any]) -> None:
    """Carry out the command.

    Args:
        values: every option of it.

    Raises:
        ValueError: something about the input is wrong; nothing is left at the output.
    """
    started = time.monotonic()
    folders = [values["model_a"], *filter(None, [values["model_b"]]), *values["adapter"]]
    output = _output(values)
    rank = parse_rank(values["rank"])
    settings = {name: values[name] for name in _SETTINGS}
    settings["weights"] = parse_weights(values["weights"])
    default_options(num_adapters=len(folders), **settings)  # said before anything is read
    grid = _grid(values, settings, len(folders))
    datasets = load_datasets(values)
    inputs = _read(folders, values)
    merged = _start(inputs, settings, values)
    export = _export(values["export"], merged, inputs, output)
    onto = _onto(values["onto"], inputs)
    trial = make_trial(inputs, datasets, values)
    sweep = None
    if trial is not None and grid:
        sweep, merged = sweep_grid(trial, inputs, merged, grid, onto, values["seed"])
        export = _export(values["export"], merged, inputs, output)
    summary: dict[str, Any] = {
        "inputs": report.describe_adapters(inputs.adapters),
        "base_model": inputs.base.name,
        "base_revision": inputs.base.revision,
        "mode": merged.mode,
        "options": asdict(merged.options) | {"missing": merged.missing, "seed": merged.seed},
        "normalize": values["normalize"],
        "trim_scope": values["trim_scope"],
        "scale_validated": sweep is not None,
        "export": export,
        "rank": values["rank"],
        "save_dtype": values["save_dtype"],
        "onto": onto,
    }
    if trial is not None:
        summary["evaluation"] = evaluate(trial, inputs, merged, onto)
        click.echo(retention_table(summary["evaluation"]))
    if output is None:
        with _progress(merged, "merging") as step:
            figures = diagnose(merged, step)
        _sum_up(inputs, merged, figures, summary)
        _show(inputs, summary)
        return

    def finish(folder: Path, figures: Figures) -> None:
        """Write what stands beside the weights."""
        _sum_up(inputs, merged, figures, summary)
        if sweep is not None:
            _write_json(folder / "sweep.json", sweep)
            draw_sweep(sweep).save(folder / "sweep.png")
        summary["seconds"] = time.monotonic() - started
        summary["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        summary["versions"] = versions()
        _write_json(folder / _REPORT, summary | {"modules": figures})
        _write_json(folder / run_folder.RUN_FILE, _run(inputs, summary))

    _write(output, inputs, merged, summary, rank, finish)
    _show(inputs, summary)
    click.echo(f"The merge and {_REPORT} are in {output}")


def _output(values: Mapping[str, Any]) -> Path | None:
    output: Path | None = values["output"]
    if values["dry_run"]:
        return None
    if output is None:
        raise ValueError("--output names the new folder; pass it, or --dry_run for figures alone.")
    check_output(output)
    return output


def _grid(
    values: Mapping[str, Any], settings: Mapping[str, Any], num_adapters: int
) -> list[dict[str, Any]]:
    """The candidates that are to be measured, if any; each checked."""
    if values["sweep"] is None:
        is_auto = values["mode"] == "auto" and values["evaluate"] and num_adapters > 1
        return list(AUTO_GRID) if is_auto else []
    if not values["evaluate"]:
        raise ValueError("--sweep chooses by scores: name the tasks by --evaluate too.")
    if num_adapters < 2:
        raise ValueError("--sweep chooses how adapters are merged; pass two or more.")
    grid = parse_grid(values["sweep"])
    for candidate in grid:
        default_options(num_adapters=num_adapters, **candidate)
    return grid


def _read(folders: Sequence[Path], values: Mapping[str, Any]) -> Inputs:
    checkpoint = resolve(values["base_model"], revision=values["revision"])
    if checkpoint.adapter is not None:
        raise ValueError(f"--base_model {values['base_model']} is an adapter; pass its base.")
    base = open_base(values["base_model"], values["revision"])
    adapters = [read_adapter(folder) for folder in folders]
    found = check_same_base(
        adapters,
        checkpoint.base,
        base_fingerprint=checkpoint.fingerprint,
        allow_mismatch=values["allow_base_mismatch"],
    )
    check_shapes(adapters, base.shapes())
    runs = [run_folder.read_run(folder) for folder in folders]
    return Inputs(checkpoint=checkpoint, base=base, adapters=adapters, runs=runs, warnings=found)


def _start(inputs: Inputs, settings: Mapping[str, Any], values: Mapping[str, Any]) -> Merge:
    mode = settings["mode"]
    if len(inputs.adapters) == 1 and mode == "auto":
        mode = "linear"  # of one adapter every mode but the pruning ones is the adapter
    options = default_options(
        num_adapters=len(inputs.adapters), **(dict(settings) | {"mode": mode})
    )
    return start_merge(
        inputs.adapters,
        mode,
        options,
        seed=values["seed"],
        missing=values["missing"],
        trim_scope=values["trim_scope"],
        normalize=values["normalize"],
        read_weight=inputs.base.read_weight,
    )


def _export(asked: str, merged: Merge, inputs: Inputs, output: Path | None) -> str:
    """What is written; refuses what it could not hold, before any work is done."""
    export = asked
    if asked == "auto":
        has_more = any(a.dora or a.biases or a.saved for a in inputs.adapters)
        is_dense = merged.mode in DENSE or has_more or len(inputs.adapters) == 1
        export = "full" if is_dense else "adapter"
    if output is not None and export != "full":
        for adapter in inputs.adapters:
            check_low_rank_only(adapter)
    if output is not None and export != "adapter":
        inputs.base.check_unquantized()
    return export


def _onto(asked: str, inputs: Inputs) -> Onto:
    """A single adapter goes onto the weights it was trained on, several onto the original."""
    if asked != "auto":
        return "nf4" if asked == "nf4" else "original"
    return trained_onto(inputs.runs[0]) if len(inputs.runs) == 1 else "original"


def _write(
    output: Path,
    inputs: Inputs,
    merged: Merge,
    summary: dict[str, Any],
    rank: Rank,
    finish: Callable[[Path, Figures], None],
) -> None:
    """Write what is asked for; `finish` adds the report before the folder takes its name."""
    export, dtype, base = summary["export"], summary["save_dtype"], inputs.base
    if export == "adapter":
        with appearing_whole(output) as folder, _progress(merged, "writing the adapter") as step:
            finish(folder, export_adapter(merged, base, folder, rank, dtype, step))
        return

    def finish_model(folder: Path, figures: Figures, cost: ExportReport) -> None:
        summary["model_export"] = {
            "bytes_read": cost.bytes_read,
            "bytes_written": cost.bytes_written,
            "seconds": cost.seconds,
        }
        if export == "both":
            with _progress(merged, "writing the adapter") as step:
                rows = export_adapter(merged, base, folder / "adapter", rank, dtype, step)
            figures = {name: row | figures[name] for name, row in rows.items()}
        finish(folder, figures)

    with _progress(merged, "writing the model") as step:
        export_model(
            merged, inputs.adapters, base, output, dtype, summary["onto"], step, finish_model
        )


@contextmanager
def _progress(merged: Merge, doing: str) -> Iterator[Progress]:
    with tqdm(total=len(merged.modules), desc=doing, leave=False) as bar:

        def step(name: str) -> None:
            bar.update()

        yield step


def _sum_up(inputs: Inputs, merged: Merge, figures: Figures, summary: dict[str, Any]) -> None:
    """Add the totals and warnings to the summary."""
    summary["totals"] = report.summarise(merged, figures)
    found = [*inputs.warnings, *report.warnings(inputs.adapters, summary["totals"])]
    if merged.mode == "auto":
        found.append("The scale of this merge is not validated; --evaluate TASK,… measures it.")
    summary["warnings"] = found


def _show(inputs: Inputs, summary: Mapping[str, Any]) -> None:
    click.echo(report.table(inputs.adapters, summary["totals"]))
    for warning in summary["warnings"]:
        click.echo(f"Warning: {warning}", err=True)


def _run(inputs: Inputs, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a merge: what its tasks and base are, for eval.py."""
    tasks = dict.fromkeys(name for run in inputs.runs for name in trained_on(run))
    known = {"task": ",".join(tasks)} if tasks else {}
    return known | {
        "base_model": inputs.base.name,
        "base_revision": inputs.checkpoint.revision,
        "base_fingerprint": inputs.checkpoint.fingerprint,
        "merged_from": [row["path"] for row in summary["inputs"]],
        "settings": {"mode": summary["mode"], "quantization": "none"},
        "versions": summary["versions"],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
