"""One run of a grid: carried out in a process, its log, and its record once it is finished."""

import shlex
import time
from pathlib import Path
from typing import Any

from common.files import file_hash
from common.json_files import read_json, write_json
from evaluation.answer_log import has_answers
from evaluation.own_code import KEY
from experiments.grid_runs import Run
from experiments.processes import run_process
from finetuning.training.checkpoints import newest
from finetuning.training.output_folder import resume_arguments
from models.checkpoint import resolve
from models.run_record import evaluation_folder, read_run

METRICS = "generation_metrics.json"  # the last file of a run: with it the run is finished


def log_of(run: Run) -> Path:
    """Return the file that takes what the training of a cell prints."""
    return run.folder.parent / "logs" / f"{run.name}.txt"


def run_one(run: Run) -> str | None:
    """Train and score one cell, its output into a log; return the sentence of its error, if any."""
    start = time.monotonic()
    log = log_of(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    again = ["--resume"] if has_answers(run.folder) else []
    command = [*run.command, *(again if run.is_base else resume_arguments(run.folder))]
    with log.open("a", encoding="utf-8") as file:
        log_start = file.tell()
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        code = run_process(command, file)
    if code:
        return f"{_last_words(log.read_bytes()[log_start:])} (exit code {code}, {log})"
    write_metrics(run, time.monotonic() - start)
    return None


def _last_words(log: bytes) -> str:
    lines = [line.strip() for line in log.decode(errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return errors[-1] if errors else next(filter(None, reversed(lines)), "no output")


def is_interrupted(run: Run) -> bool:
    """Return True where a run that is not finished left something to go on from."""
    return has_answers(run.folder) if run.is_base else newest(run.folder) is not None


def write_metrics(run: Run, seconds: float) -> None:
    """Write what a finished run measured, and the options it ran with."""
    metrics, predictions = {}, None
    data = {"base_fingerprint": read_run(run.folder).get("base_fingerprint")}
    if (folder := _scores(run)) is not None:
        metrics = read_json(folder / "metrics.json")
        predictions = (folder / "predictions.jsonl").relative_to(run.folder).as_posix()
    if run.is_base:  # it has no run.json, which says of a training what it was scored on, and how
        origin = metrics["provenance"]
        data = {"eval_data": origin["data"], KEY: origin.get(KEY)}
        of_model = {name: run.values[name] for name in ("revision", "model_type")}
        base = resolve(run.values["model_path"], **of_model)
        data["base_fingerprint"] = base.fingerprint
    kept = ("split", "num_examples", "metric", "value", "metrics", "uncertainty")
    record = {
        "run": run.name,
        "model": run.model,
        "variant": run.variant,
        "task": run.task,
        "seed": run.seed,
        "settings": dict(run.settings),
        **{key: metrics.get(key) for key in kept},
        "predictions": predictions,
        "seconds": seconds,
        "options": list(run.options),
        **data,
        "adapter_sha256": adapter_hash(run),
    }
    write_json(run.folder / METRICS, record, ensure_ascii=False)


def _scores(run: Run) -> Path | None:
    """The folder of what a finished run scored, if it did."""
    if run.is_base:
        return run.folder
    trained = read_run(run.folder)
    if (scored := trained["eval_data"]) is None:
        return None
    return evaluation_folder(run.folder, trained, run.task, scored["split"])


def adapter_hash(run: Run) -> str | None:
    """Return the sha256 of a run's adapter; None where there is none, or it was removed."""
    weights = run.folder / "adapter_model.safetensors"
    return file_hash(weights) if weights.is_file() else None


def recorded(run: Run) -> dict[str, Any]:
    """Return what the records of a finished run say, its data and its weights among it."""
    return read_run(run.folder) | read_json(run.folder / METRICS)
