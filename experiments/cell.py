"""One cell of a grid: run in a process, its log, and the record of a finished run."""

import shlex
import time
from pathlib import Path

from common.json_files import read_json, write_json
from experiments.ablation import Run
from experiments.processes import run_process
from finetuning.training.output_folder import resume_arguments
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
    command = [*run.command, *resume_arguments(run.folder)]
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


def write_metrics(run: Run, seconds: float) -> None:
    """Write what a finished cell measured, and the options it ran with."""
    trained = read_run(run.folder)
    metrics, predictions = {}, None
    if (scored := trained["eval_data"]) is not None:
        folder = evaluation_folder(run.folder, trained, run.task, scored["split"])
        metrics = read_json(folder / "metrics.json")
        predictions = (folder / "predictions.jsonl").relative_to(run.folder).as_posix()
    kept = ("split", "num_examples", "metric", "value", "metrics", "uncertainty")
    record = {
        "run": run.name,
        "model": run.model,
        "variant": run.variant,
        "task": run.task,
        **{key: metrics.get(key) for key in kept},
        "predictions": predictions,
        "seconds": seconds,
        "options": list(run.options),
    }
    write_json(run.folder / METRICS, record, ensure_ascii=False)
