"""One merge from its options to its folder: read, check, choose, merge, write, report."""

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from evaluation.provenance import versions
from finetuning.training import output_folder as run_folder
from merging.algebra import report
from merging.algebra.adapters import (
    check_low_rank_only,
    check_same_base,
    check_shapes,
    read_adapter,
)
from merging.algebra.base import open_base
from merging.algebra.export import Figures, Progress, diagnose, export_adapter, export_model
from merging.algebra.full_model import ExportReport, Onto
from merging.algebra.merge import Merge, RankLimit, start_merge
from merging.algebra.methods import DENSE
from merging.algebra.modes import default_options
from merging.algebra.staging import atomic_folder, check_output
from merging.scores import (
    Inputs,
    evaluate,
    load_datasets,
    make_trial,
    sweep_grid,
    trained_onto,
)
from merging.settings import (
    Settings,
    check_export_effects,
    parse_candidates,
    parse_rank,
    parse_tasks,
)
from merging.sweep_picture import draw_sweep
from merging.tables import score_table, sweep_table
from models.checkpoint import adapter_folder, resolve
from models.loading import load_family
from tasks.files import write_text

_REPORT = "merge_report.json"
_FOR_DORA = ("linear", *DENSE)  # the others need updates of low rank


def merge(values: Mapping[str, Any]) -> None:
    """Carry out the command.

    Args:
        values: every option of it.

    Raises:
        ValueError: something about the input is wrong; nothing is left at the output.
    """
    started = time.monotonic()
    named = [values["model_a"], *filter(None, [values["model_b"]]), *values["adapter"]]
    folders = [adapter_folder(str(folder)) or folder for folder in named]
    output = _output(values)
    rank = parse_rank(values["rank"])
    tasks = parse_tasks(values["evaluate"])
    candidates, is_measured = parse_candidates(values, len(folders))
    inputs = _read(folders, values)
    if is_measured and values["sweep"] is None and any(a.dora for a in inputs.adapters):
        candidates = [c for c in candidates if c["mode"] in _FOR_DORA]
    _check_exports(candidates, inputs, output, values)
    datasets = load_datasets(tasks, values, is_halved=is_measured)
    onto = _onto(values["onto"], inputs)
    trial = make_trial(inputs, datasets, values)
    merged = _start(inputs, candidates[0], values)
    sweep = None
    if trial is not None and is_measured:
        sweep, merged = sweep_grid(trial, inputs, merged, candidates, onto, values["seed"])
        click.echo(sweep_table(sweep))
    summary = _describe(inputs, merged, onto, values) | {"chosen_by_scores": sweep is not None}
    if trial is not None:
        summary["evaluation"] = evaluate(trial, inputs, merged, onto)
        _show_scores(summary["evaluation"])
    found = [*inputs.warnings, *_notes(sweep), *_notes(summary.get("evaluation"))]
    if output is None:
        with _progress(merged, "merging") as step:
            figures = diagnose(merged, step)
        _sum_up(inputs, merged, figures, summary, found)
        _show(inputs, summary)
        return

    def finish(folder: Path, figures: Figures) -> None:
        """Write what stands beside the weights."""
        _sum_up(inputs, merged, figures, summary, found)
        if sweep is not None:
            _write_json(folder / "sweep.json", sweep)
            draw_sweep(sweep).save(folder / "sweep.png")
        summary["seconds"] = time.monotonic() - started
        summary["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        summary["versions"] = versions()
        _write_json(folder / _REPORT, summary | {"modules": figures})
        for place in (folder, folder / "adapter"):  # each can be scored by eval.py
            if place.is_dir():
                if inputs.processor_checkpoint != inputs.checkpoint:
                    load_family(inputs.processor_checkpoint).save(str(place))
                _write_json(place / run_folder.RUN_FILE, _run(inputs, summary))

    _write(output, inputs, merged, summary, rank, finish)
    _show(inputs, summary)
    click.echo(f"The merge and {_REPORT} are in {output}")


def _describe(
    inputs: Inputs, merged: Merge, onto: Onto, values: Mapping[str, Any]
) -> dict[str, Any]:
    """What is merged and how, every option after its default."""
    return {
        "inputs": report.describe_adapters(inputs.adapters),
        "base_model": inputs.base.name,
        "base_revision": inputs.base.revision,
        "mode": merged.mode,
        "options": asdict(merged.options) | {"missing": merged.missing, "seed": merged.seed},
        "normalize": values["normalize"],
        "trim_scope": values["trim_scope"],
        "export": _export(values["export"], merged.mode, inputs),
        "rank": values["rank"],
        "save_dtype": values["save_dtype"],
        "onto": onto,
    }


def _output(values: Mapping[str, Any]) -> Path | None:
    output: Path | None = values["output"]
    if values["dry_run"]:
        return None
    if output is None:
        raise ValueError("--output names the new folder; pass it, or --dry_run for figures alone.")
    check_output(output)
    return output


def _read(folders: Sequence[Path], values: Mapping[str, Any]) -> Inputs:
    runs = [run_folder.read_run(folder) for folder in folders]
    checkpoint = resolve(
        values["base_model"],
        revision=values["revision"],
        model_type=_model_type(runs),
    )
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
    unknown = [str(folder) for folder, run in zip(folders, runs, strict=True) if not run]
    if unknown:
        found.append(
            f"There is no run.json in {' and '.join(unknown)}, which would say whether 4-bit "
            "weights were trained on; the original ones are assumed."
        )
    own = [
        folder
        for folder, run in zip(folders, runs, strict=True)
        if any(_model_settings(run).values())
    ]
    if own and any(_model_settings(run) != _model_settings(runs[0]) for run in runs):
        found.append(
            "The adapters were trained with different picture sizes or chat templates; the merge "
            f"is fed as {own[0]} was."
        )
    return Inputs(
        checkpoint=checkpoint,
        processor_checkpoint=replace(checkpoint, adapter=own[0]) if own else checkpoint,
        base=base,
        adapters=adapters,
        runs=runs,
        warnings=found,
    )


def _model_type(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """The family that the runs named in place of the base's own, if any did."""
    return next(filter(None, (_model_settings(run)["model_type"] for run in runs)), None)


def _model_settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """How a run fed its model, where it said otherwise than the base."""
    names = ("model_type", "chat_template", "image_size", "min_pixels", "max_pixels")
    return {name: run.get("settings", {}).get(name) for name in names}


def _start(inputs: Inputs, settings: Settings, values: Mapping[str, Any]) -> Merge:
    return start_merge(
        inputs.adapters,
        settings["mode"],
        default_options(num_adapters=len(inputs.adapters), **settings),
        seed=values["seed"],
        missing=values["missing"],
        trim_scope=values["trim_scope"],
        normalize=values["normalize"],
        read_weight=inputs.base.read_weight,
    )


def _check_exports(
    candidates: Sequence[Settings],
    inputs: Inputs,
    output: Path | None,
    values: Mapping[str, Any],
) -> None:
    """Refuse what could not be written, whichever candidate is chosen, before any work is done."""
    exports = {_export(values["export"], settings["mode"], inputs) for settings in candidates}
    check_export_effects(values, exports)
    if output is not None and exports != {"full"}:
        for adapter in inputs.adapters:
            check_low_rank_only(adapter)
    if output is not None and exports != {"adapter"}:
        inputs.base.check_unquantized()


def _export(asked: str, mode: str, inputs: Inputs) -> str:
    """What is written."""
    if asked != "auto":
        return asked
    has_more = any(a.dora or a.biases or a.saved for a in inputs.adapters)
    is_dense = mode in DENSE or has_more or len(inputs.adapters) == 1
    return "full" if is_dense else "adapter"


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
    rank: RankLimit,
    finish: Callable[[Path, Figures], None],
) -> None:
    """Write what is asked for; `finish` adds the report before the folder takes its name."""
    export, dtype, base = summary["export"], summary["save_dtype"], inputs.base
    adapter_bytes = sum(adapter.num_bytes for adapter in inputs.adapters)
    if export == "adapter":
        with atomic_folder(output) as folder, _progress(merged, "writing the adapter") as step:
            figures = export_adapter(merged, base, folder, rank, dtype, step)
            summary["bytes_read"], summary["bytes_written"] = adapter_bytes, _size(folder)
            finish(folder, figures)
        return

    def finish_model(folder: Path, figures: Figures, cost: ExportReport) -> None:
        if export == "both":
            with _progress(merged, "writing the adapter") as step:
                rows = export_adapter(merged, base, folder / "adapter", rank, dtype, step)
            figures = {name: row | figures[name] for name, row in rows.items()}
        summary["bytes_read"] = adapter_bytes + cost.bytes_read
        summary["bytes_written"] = _size(folder)
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


def _size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _notes(measured: Mapping[str, Any] | None) -> list[str]:
    return [] if measured is None else measured["notes"]


def _sum_up(
    inputs: Inputs,
    merged: Merge,
    figures: Figures,
    summary: dict[str, Any],
    found: Sequence[str],
) -> None:
    """Add the totals and warnings to the summary, after those that were found before."""
    summary["totals"] = report.summarise(merged, figures)
    summary["warnings"] = [*found, *report.warnings(inputs.adapters, summary["totals"])]
    if merged.mode == "auto":
        summary["warnings"].append(
            "The scale of this merge is not validated; --evaluate TASK,… measures it."
        )


def _show_scores(evaluation: Mapping[str, Any]) -> None:
    parts = (evaluation[key] for key in ("metrics", "scores", "retention", "intervals_95"))
    click.echo(score_table(*parts))
    gaps = ", ".join(f"{task} {gap:+.2f}" for task, gap in evaluation["onto_gap"].items())
    click.echo(f"gap of the merge, original less NF4: {gaps}")


def _show(inputs: Inputs, summary: Mapping[str, Any]) -> None:
    click.echo(report.table(inputs.adapters, summary["totals"]))
    for warning in summary["warnings"]:
        click.echo(f"Warning: {warning}", err=True)


def _run(inputs: Inputs, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a merge: what its tasks and base are, for eval.py."""
    asked = inputs.prompt_settings
    known = {"task": ",".join(asked), "asked_as": asked} if asked else {}
    return known | {
        "base_model": inputs.base.name,
        "base_revision": inputs.checkpoint.revision,
        "base_fingerprint": inputs.checkpoint.fingerprint,
        "merged_from": [row["path"] for row in summary["inputs"]],
        "settings": {
            "mode": summary["mode"],
            "quantization": "none",
            "model_type": _model_type(inputs.runs),
        },
        "versions": summary["versions"],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
