"""The command that carries out a grid: each run in a process of its own, then one comparison."""

import csv
import io
import json
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec

from common.files import check_writable, write_chunks, write_text
from common.json_files import read_json
from evaluation.provenance import versions
from experiments import processes
from experiments.ablation import Ablation, Run, read_ablation, runs
from finetuning.training.output_folder import has_checkpoint, resume_arguments
from models.run_record import evaluation_folder, read_run
from palitune.command import Command, Option

SUMMARY = "ablation_summary.json"
METRICS = "generation_metrics.json"  # the last file of a run: with it the run is finished
# what may be otherwise in a finished run: speed, memory, how often something is written
_WITHOUT_INFLUENCE = {
    *("num_workers", "eval_batch_size", "gradient_checkpointing", "no_gradient_checkpointing"),
    *("logging_steps", "save_steps", "save_total_limit"),
}


def ablate_command() -> click.Command:
    """The command behind `palitune ablate`."""
    return Command(
        "ablate",
        params=[
            Option(
                ["--config"],
                required=True,
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="YAML file with the grid; configs/vlm_ablation.yaml is one.",
            ),
            Option(
                ["--only"],
                multiple=True,
                metavar="NAME",
                help="Runs of this model, variant or full name alone; may be repeated.",
            ),
            Option(["--resume"], is_flag=True, help="Go on with runs that were interrupted."),
            Option(["--dry_run"], is_flag=True, help="List the runs and their commands."),
            Option(
                ["--ray"],
                is_flag=False,
                flag_value="local",
                metavar="[ADDRESS]",
                help="Send the runs to the Ray cluster at this address; alone: start one here.",
            ),
        ],
        callback=_ablate,
        help="Train and score models x LoRA variants. Finished runs are not run again; one that "
        "fails is recorded and the others go on (exit code 1).",
    )


def _ablate(
    config: Path, only: Sequence[str], resume: bool, dry_run: bool, ray: str | None
) -> None:
    ablation = read_ablation(config)
    grid = runs(ablation)
    chosen = _chosen(grid, only)
    check_writable(ablation.folder)
    data = _check(chosen)
    states = {run.name: state(run, data[run.task]) for run in chosen}
    if dry_run:
        for run in chosen:
            click.echo(f"{run.name}  {states[run.name]}")
            click.echo(f"  {shlex.join(run.command)}")
        return
    interrupted = [run.name for run in chosen if states[run.name] == "interrupted"]
    if interrupted and not resume:
        raise ValueError(
            f"{', '.join(interrupted)} in {ablation.folder} was interrupted: --resume goes on "
            "from the last checkpoint; to begin anew, remove the folder."
        )
    for run in chosen:
        if states[run.name] == "finished":
            click.echo(f"{run.name}: finished before")
    waiting = [run for run in chosen if states[run.name] != "finished"]
    errors = _errors_before(ablation.folder / SUMMARY)
    has_failed = False
    for run, error in _carry_out(waiting, ray):
        click.echo(f"{run.name}: {error or 'finished'}")
        errors[run.name] = error
        has_failed = has_failed or error is not None
        _write_summary(ablation, grid, errors)
    click.echo(_table(_write_summary(ablation, grid, errors)))
    click.echo(f"Summary, table and picture are in {ablation.folder}")
    if has_failed:
        click.get_current_context().exit(1)


def _errors_before(summary: Path) -> dict[str, str | None]:
    """Run -> why it failed, as an earlier call with other runs recorded it."""
    if not summary.is_file():
        return {}
    rows = read_json(summary)["runs"]
    return {row["run"]: row["error"] for row in rows}


def _chosen(grid: Sequence[Run], only: Sequence[str]) -> list[Run]:
    names = {name for run in grid for name in (run.name, run.model, run.variant)}
    for name in only:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ValueError(
                f"--only {name} is no run, model or variant of the grid"
                f"{f'; did you mean {near[0]}?' if near else f', which has {_list(grid)}.'}"
            )
    return [run for run in grid if not only or {run.name, run.model, run.variant} & set(only)]


def _list(grid: Sequence[Run]) -> str:
    return ", ".join(run.name for run in grid)


def _check(grid: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Find wrong values, tables, models and layers before the first run starts.

    Returns:
        Task -> its data, as run.json describes them.

    Raises:
        ValueError: names the run and what is wrong with it.
    """
    from finetuning.training.job import check_model, load_data, load_selection, open_family
    from finetuning.training.record import describe_all
    from palitune.main import palitune
    from palitune.train import make_job

    train = palitune.commands["train"]
    assert isinstance(train, click.Group)
    data: dict[str, dict[str, Any]] = {}
    for run in grid:
        try:
            command = train.commands[run.task]
            job = make_job([run.task], command.make_context(run.task, list(run.options)).params)
            job, checkpoint = check_model(job)
            if run.task not in data:
                datasets = load_data(job.tasks[0], job.recipe)
                load_selection(job.tasks[0], job.recipe, datasets[1])
                data[run.task] = describe_all([datasets])
            open_family(job, checkpoint)
        except (ValueError, click.ClickException) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else error
            raise ValueError(f"{run.name}: {message}") from error
    return data


def state(run: Run, data: Mapping[str, Any]) -> str:
    """`finished`, `interrupted` (a checkpoint to go on from) or `new`.

    Args:
        run: the cell.
        data: what it is to be trained and scored on, as run.json describes it.

    Raises:
        ValueError: it was finished with other settings or data; names what differs.
    """
    file = run.folder / METRICS
    if file.is_file():
        before = read_json(file)
        was, now = (_settings(options) for options in (before["options"], run.options))
        remedy = "give the grid another experiment_name, or remove that folder."
        if was != now:
            old = ", ".join(setting for setting in was if setting not in now) or "the default"
            new = ", ".join(setting for setting in now if setting not in was) or "the default"
            raise ValueError(
                f"{run.folder} was finished with {old} and is now to have {new}; {remedy}"
            )
        recorded = read_run(run.folder)
        changed = [name for name in data if recorded.get(name) != data[name]]
        if changed:
            raise ValueError(
                f"{run.folder} was finished with other {' and '.join(changed)} than its files hold "
                f"now; {remedy}"
            )
        return "finished"
    return "interrupted" if has_checkpoint(run.folder) else "new"


def _settings(options: Sequence[str]) -> list[str]:
    """The options that have a say in what comes out."""
    settings = " ".join(options).removeprefix("--").split(" --")
    return [setting for setting in settings if setting.split(" ")[0] not in _WITHOUT_INFLUENCE]


def _carry_out(grid: Sequence[Run], ray: str | None) -> Iterator[tuple[Run, str | None]]:
    """Each run with what went wrong in it, as they end."""
    if ray is None:
        for run in grid:
            click.echo(f"{run.name} …")
            yield run, carry_out(run)
        return
    yield from _on_ray(grid, ray)


def _on_ray(grid: Sequence[Run], address: str) -> Iterator[tuple[Run, str | None]]:
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "--ray needs Ray; run `pip install -c constraints.txt -e .[ray]` in the checkout."
        ) from error

    _check_reachable(address)
    ray.init(address=address, log_to_driver=False)  # `local` and `auto` are words of Ray's own
    num_gpus = min(1, ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(_carry_out_in)
    pending = {remote.remote(Path.cwd(), run): run for run in grid}
    while pending:
        (done, *_), _ = ray.wait(list(pending))
        fault: str | None
        try:
            fault = ray.get(done)
        except ray.exceptions.RayError as lost:  # the worker's, or a node's that died
            fault = f"{type(lost).__name__}: {str(lost).partition(chr(10))[0]}"
        yield pending.pop(done), fault
    ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ask HOST:PORT once: Ray itself tries for minutes and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--ray {address} cannot be reached ({error}); give HOST:PORT of a cluster, or nothing "
            "to start one here."
        ) from error


def _carry_out_in(folder: Path, run: Run) -> str | None:
    """On a worker, which starts where its node did: paths of the grid are relative to ours."""
    os.chdir(folder)
    return carry_out(run)


def carry_out(run: Run) -> str | None:
    """Train and score one cell, what it prints into a log; the sentence of its error, if any."""
    start = time.monotonic()
    log = run.folder.parent / "logs" / f"{run.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*run.command, *resume_arguments(run.folder)]
    with log.open("a", encoding="utf-8") as file:
        log_start = file.tell()
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        code = processes.carry_out(command, file)
    if code:
        return f"{_last_words(log.read_bytes()[log_start:])} (exit code {code}, {log})"
    _write_metrics(run, time.monotonic() - start)
    return None


def _last_words(log: bytes) -> str:
    lines = [line.strip() for line in log.decode(errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return errors[-1] if errors else next(filter(None, reversed(lines)), "no output")


def _write_metrics(run: Run, seconds: float) -> None:
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
    write_text(run.folder / METRICS, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def _write_summary(
    ablation: Ablation, grid: Sequence[Run], errors: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """The state of every run, as JSON, as a table and as a picture; returns the runs' rows."""
    from experiments.comparison_picture import draw_comparison

    rows = [_row(run, errors.get(run.name)) for run in grid]
    summary = {
        "experiment_name": ablation.experiment_name,
        "grid": msgspec.to_builtins(ablation),
        "runs": rows,
        "versions": versions(),
    }
    folder = ablation.folder
    write_text(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "ablation_summary.csv", _as_csv(rows))
    if any(row["value"] is not None for row in rows):
        picture = io.BytesIO()
        draw_comparison(rows).save(picture, "PNG")
        write_chunks(folder / "comparison.png", [picture.getvalue()])
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fixed, "low_95", "high_95", *names, "seconds", "error"])
    for row in rows:
        low, high = row["interval_95"] or (None, None)
        figures = [(row["metrics"] or {}).get(name) for name in names]
        writer.writerow(
            [*(row[name] for name in fixed), low, high, *figures, row["seconds"], row["error"]]
        )
    return text.getvalue()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The runs for a terminal, the best of each task first."""
    width = max(len(row["run"]) for row in rows)
    lines = []
    for row in sorted(rows, key=lambda row: (row["task"], -(row["value"] or -1.0), row["run"])):
        if row["value"] is None:
            lines.append(f"{row['run']:<{width}}  {row['status']}")
            continue
        low, high = row["interval_95"] or (row["value"], row["value"])
        lines.append(
            f"{row['run']:<{width}}  {row['metric']} {row['value']:.4g}  [{low:.4g}, {high:.4g}]"
        )
    return "\n".join(lines)
