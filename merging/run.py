"""One merge from its request to its folder: read, check, choose, merge, write, report."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common.files import write_text
from common.json_files import write_json
from common.peak_memory import peak_memory_mb
from common.progress import Bar
from evaluation.answer_log import AnswerLog
from evaluation.own_code import KEY
from evaluation.provenance import versions
from merging.algebra import report
from merging.algebra.adapters import check_low_rank_only
from merging.algebra.export import Measures, Progress, diagnose, export_adapter, export_model
from merging.algebra.full_model import ExportReport, Onto, check_tied
from merging.algebra.merge import Merge, start_merge
from merging.algebra.modes import MODES, RankLimit, default_options
from merging.algebra.staging import atomic_folder, check_output
from merging.inputs import Inputs, model_type_of, read_inputs
from merging.model_card import merge_card
from merging.request import MergeRequest
from merging.scores import evaluate, load_datasets, make_trial, sweep_grid, trained_onto
from merging.settings import Settings, check_export_effects, list_candidates, parse_rank
from merging.stored_in_4_bits import plain_weights
from merging.sweep_chart import draw_sweep
from merging.sweep_index import write_sweep_index
from merging.tables import evaluation_table, sweep_table
from models import run_record
from models.adapter_config import CONFIG_FILE
from models.checkpoint import adapter_folder

logger = logging.getLogger(__name__)

_REPORT = "merge_report.json"


def merge(request: MergeRequest, show: Callable[[str], None]) -> None:
    """Merge adapters, score the merge where that is asked for, write and report it.

    Args:
        request: the merge.
        show: takes each text for the user as soon as it is known.

    Raises:
        ValueError: something about the input is wrong; nothing is left at the output.
    """
    started = time.monotonic()
    folders = [adapter_folder(str(folder)) or folder for folder in request.adapters]
    if request.output is not None:
        check_output(request.output)
    rank = parse_rank(request.rank)
    candidates, is_measured = list_candidates(request)
    inputs = read_inputs(request, folders)
    if is_measured and request.sweep is None and any(a.dora for a in inputs.adapters):
        candidates = [c for c in candidates if MODES[c["mode"]].takes_dora]
    _check_exports(candidates, inputs, request)
    datasets = load_datasets(request, is_halved=is_measured)
    onto = _onto(request.onto, inputs)
    merged = _start(inputs, candidates[0], request)
    trial = make_trial(inputs, datasets, request.trial)
    if trial is not None and request.output is not None:
        identity = _describe(inputs, merged, onto, request) | {"candidates": candidates}
        trial = replace(trial, log=_open_log(request, inputs, identity))
    sweep = None
    if trial is not None and is_measured:
        sweep, merged = sweep_grid(trial, inputs, merged, candidates, onto, request.seed)
        show(sweep_table(sweep))
    summary = _describe(inputs, merged, onto, request) | {"chosen_by_scores": sweep is not None}
    if trial is not None:
        summary["evaluation"] = evaluate(trial, inputs, merged, onto)
        show(evaluation_table(summary["evaluation"]))
    found = [*inputs.warnings, *_notes(sweep), *_notes(summary.get("evaluation"))]
    if request.output is None:
        with _progress(merged, "merging") as step:
            measures = diagnose(merged, step)
        _sum_up(inputs, merged, measures, summary, found)
    else:
        finish = _finisher(request, inputs, merged, summary, found, sweep, started)
        _write(request.output, inputs, merged, summary, rank, finish)
        shutil.rmtree(_log_folder(request.output), ignore_errors=True)
    show(report.table(inputs.adapters, summary["totals"]))
    for warning in summary["warnings"]:
        logger.warning("Warning: %s", warning)
    if request.output is not None:
        show(f"The merge and {_REPORT} are in {request.output}")


def _open_log(request: MergeRequest, inputs: Inputs, identity: Mapping[str, Any]) -> AnswerLog:
    """Return what keeps the scores of the trials, beside the output, which is made at the end."""
    assert request.output is not None
    more = {
        "base_fingerprint": inputs.checkpoint.fingerprint,
        "batch_size": request.trial.batch_size,
        "prompts": inputs.prompt_settings,
    }
    return AnswerLog(_log_folder(request.output), {**identity, **more}, resume=request.resume)


def _log_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.trials")


def _finisher(
    request: MergeRequest,
    inputs: Inputs,
    merged: Merge,
    summary: dict[str, Any],
    found: Sequence[str],
    sweep: Mapping[str, Any] | None,
    started: float,
) -> Callable[[Path, Measures], None]:
    """Return what writes everything beside the weights, before the folder takes its name."""

    def finish(folder: Path, measures: Measures) -> None:
        """Write what stands beside the weights."""
        _sum_up(inputs, merged, measures, summary, found)
        if sweep is not None:
            write_json(folder / "sweep.json", sweep)
            draw_sweep(sweep).save(folder / "sweep.png")
            metrics = {pair.task.name: pair.task.metric for pair in request.trial.tasks}
            write_sweep_index(sweep, metrics, folder)
        summary["versions"] = versions()
        for place in (folder, folder / "adapter"):  # each can be scored by eval.py
            if place.is_dir():
                is_adapter = (place / CONFIG_FILE).is_file()
                has_own = inputs.processor_checkpoint != inputs.checkpoint
                if inputs.family is not None and (is_adapter or has_own):
                    inputs.family.save(str(place))
                write_json(place / run_record.RUN_FILE, _run(inputs, summary))
                card = merge_card(request, summary, sweep, inputs, is_adapter=is_adapter)
                write_text(place / "README.md", card)
        summary["bytes_written"] = _size(folder)  # all but the report
        summary["seconds"] = time.monotonic() - started
        summary["peak_rss_mb"] = peak_memory_mb()
        write_json(folder / _REPORT, summary | {"modules": measures})

    return finish


def _describe(inputs: Inputs, merged: Merge, onto: Onto, request: MergeRequest) -> dict[str, Any]:
    """Return the inputs and the settings of a merge, each default resolved."""
    return {
        "inputs": report.describe_adapters(inputs.adapters),
        "base_model": inputs.base.name,
        "base_revision": inputs.base.revision,
        "mode": merged.mode,
        "options": asdict(merged.options) | {"missing": merged.missing, "seed": merged.seed},
        "normalize": request.normalize,
        "trim_scope": request.trim_scope,
        "export": _export(request.export, merged.mode, inputs),
        "rank": request.rank,
        "save_dtype": request.save_dtype,
        "onto": onto,
    }


def _start(inputs: Inputs, settings: Settings, request: MergeRequest) -> Merge:
    return start_merge(
        inputs.adapters,
        settings["mode"],
        default_options(num_adapters=len(inputs.adapters), **settings),
        seed=request.seed,
        missing=request.missing,
        trim_scope=request.trim_scope,
        normalize=request.normalize,
        read_weight=inputs.base.read_weight,
    )


def _check_exports(candidates: Sequence[Settings], inputs: Inputs, request: MergeRequest) -> None:
    """Refuse what could not be written, whichever candidate is chosen, before any work is done."""
    exports = {_export(request.export, settings["mode"], inputs) for settings in candidates}
    check_export_effects(request, exports)
    if request.trial.tasks or (request.output is not None and exports != {"adapter"}):
        check_tied(inputs.base, {name for adapter in inputs.adapters for name in adapter.updates})
    if request.output is not None and exports != {"full"}:
        for adapter in inputs.adapters:
            check_low_rank_only(adapter)
    has_dora = any(adapter.dora for adapter in inputs.adapters)
    if request.output is not None and exports != {"adapter"} and not inputs.base.is_bitsandbytes:
        inputs.base.check_unquantized()
        inputs.base.check_whole()
    if has_dora:  # its update is of the plain weights
        inputs.base.check_unquantized()


def _export(asked: str, mode: str, inputs: Inputs) -> str:
    """Return the kind of export that is written."""
    if asked != "auto":
        return asked
    has_more = any(a.dora or a.biases or a.saved for a in inputs.adapters)
    is_dense = MODES[mode].kind == "dense" or has_more or len(inputs.adapters) == 1
    return "full" if is_dense else "adapter"


def _onto(asked: str, inputs: Inputs) -> Onto:
    """A single adapter goes onto the weights it was trained on, several onto the original."""
    if asked != "auto":
        return "nf4" if asked == "nf4" else "original"
    if inputs.base.is_bitsandbytes:
        return "original"  # what is stored is what was trained on
    return trained_onto(inputs.runs[0]) if len(inputs.runs) == 1 else "original"


def _write(
    output: Path,
    inputs: Inputs,
    merged: Merge,
    summary: dict[str, Any],
    rank: RankLimit,
    finish: Callable[[Path, Measures], None],
) -> None:
    """Write adapter, model or both; `finish` adds the report before the folder takes its name."""
    export, dtype, base = summary["export"], summary["save_dtype"], inputs.base
    adapter_bytes = sum(adapter.num_bytes for adapter in inputs.adapters)
    if export == "adapter":
        with atomic_folder(output) as folder, _progress(merged, "writing the adapter") as step:
            measures = export_adapter(merged, base, folder, rank, dtype, step)
            summary["bytes_read"] = adapter_bytes
            finish(folder, measures)
        return

    def finish_model(folder: Path, measures: Measures, cost: ExportReport) -> None:
        if export == "both":
            with _progress(merged, "writing the adapter") as step:
                rows = export_adapter(merged, base, folder / "adapter", rank, dtype, step)
            measures = {name: row | measures[name] for name, row in rows.items()}
        summary["bytes_read"] = adapter_bytes + cost.bytes_read
        finish(folder, measures)

    with plain_weights(base, output) as plain, _progress(merged, "writing the model") as step:
        export_model(
            merged, inputs.adapters, plain, output, dtype, summary["onto"], step, finish_model
        )


@contextmanager
def _progress(merged: Merge, doing: str) -> Iterator[Progress]:
    with Bar(doing, len(merged.modules), "modules") as bar:

        def step(name: str) -> None:
            bar.advance()

        yield step


def _size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _notes(measured: Mapping[str, Any] | None) -> list[str]:
    return [] if measured is None else measured["notes"]


def _sum_up(
    inputs: Inputs,
    merged: Merge,
    measures: Measures,
    summary: dict[str, Any],
    found: Sequence[str],
) -> None:
    """Add the totals and warnings to the summary, after those that were found before."""
    summary["totals"] = report.summarise(merged, measures)
    summary["warnings"] = [*found, *report.warnings(inputs.adapters, summary["totals"])]
    if merged.mode == "auto":
        summary["warnings"].append(
            "The scale of this merge is not validated; --evaluate TASK,TASK measures it."
        )


def _run(inputs: Inputs, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a merge: what its tasks and base are, for eval.py."""
    asked = inputs.prompt_settings
    known = {"task": ",".join(asked), "asked_as": asked} if asked else {}
    entries = [entry for run in inputs.runs for entry in run.get(KEY, ())]
    own_code = [entry for place, entry in enumerate(entries) if entry not in entries[:place]]
    return known | {
        **({KEY: own_code} if own_code else {}),
        "base_model": inputs.base.name,
        "base_revision": inputs.checkpoint.revision,
        "base_fingerprint": inputs.checkpoint.fingerprint,
        "merged_from": [row["path"] for row in summary["inputs"]],
        "settings": {
            "mode": summary["mode"],
            "quantization": "none",
            "model_type": model_type_of(inputs.runs),
        },
        "versions": summary["versions"],
    }
