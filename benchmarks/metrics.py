"""Scoring a whole split: `eval.py` on given predictions beside the same rule in plain Python.

    python benchmarks/metrics.py                            # true sizes: minutes, 12 GB of memory
    python benchmarks/metrics.py docvqa vqav2 --scale 0.01  # tries the script out

Data (`metrics_data.py`) is invented and seeded, in the official formats and sizes. The plain side
(`metrics_plain.py`) loads the files by `json` and applies the rule as the official script does;
both must give the same figures, breakdowns included. Caption scores have no plain side: the
official scorers are what we call.
"""

import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from common.json_files import write_json

HERE = Path(__file__).parent
NUM_EXAMPLES = {"vqav2": 214_354, "gqa": 2_011_853, "docvqa": 5_349, "coco_captioning": 5_000}
SPLITS = {"gqa": "val_all"}  # consistency takes all questions; the others have one val
WITHOUT_PLAIN = ("coco_captioning",)
TOLERANCE = 1e-6
HEAD = ("task", "questions", "s", "MB", "plain s", "plain MB", "x time", "x memory", "load")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a command: seconds by the clock and of a processor, largest memory in MB."""

    duration_s: float
    peak_mb: float
    cpu_s: float = 0.0  # of a command that was run as a whole


def measure(script: Path, *arguments: object) -> Cost:
    """Run a Python script to its end.

    The kernel starts a child's peak at what its parent held, so this process stays small: it loads
    no data, and data is made in a process of its own. Of a command that starts others (Java) the
    peak is that of the largest process.
    """
    command = [sys.executable, str(script), *map(str, arguments)]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    duration_s = time.perf_counter() - start
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise click.ClickException(f"{' '.join(command)} ended with exit code {code}.")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(duration_s, usage.ru_maxrss * unit / 1e6, usage.ru_utime + usage.ru_stime)


def make_data(task: str, num_examples: int, root: Path) -> Path:
    """Make the folder of a task's files, unless it is there."""
    folder = root / f"{task}-{num_examples}"
    if not folder.is_dir():
        cost = measure(HERE / "metrics_data.py", task, num_examples, folder)
        click.echo(f"made {folder.name} in {cost.duration_s:.0f} s", err=True)
    return folder


def score_ours(task: str, data: Path, output_dir: Path) -> tuple[Cost, dict[str, float]]:
    """Score by our command."""
    options = {
        "--task": task,
        "--data_root": data,
        "--split": SPLITS.get(task, "val"),
        "--predictions": data / "predictions.json",
        "--output_dir": output_dir,
    }
    cost = measure(HERE.parent / "eval.py", *(part for pair in options.items() for part in pair))
    return cost, read_metrics(output_dir / "metrics.json")


def score_plainly(task: str, data: Path, file: Path) -> tuple[Cost, dict[str, float]]:
    """Score by the plain rule."""
    cost = measure(HERE / "metrics_plain.py", task, data, file)
    return cost, read_metrics(file)


def read_metrics(path: Path) -> dict[str, float]:
    """Read every number of a metrics.json, by `table: name`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tables = {"metrics": content["metrics"], **content["breakdown"]}
    return {
        f"{table}: {name}": figure
        for table, metrics in tables.items()
        for name, figure in metrics.items()
        if figure is not None
    }


def check_equal(task: str, ours: dict[str, float], plain: dict[str, float]) -> None:
    """Stop unless we have every figure of the plain side, and the same."""
    for name, figure in plain.items():
        if name not in ours or abs(ours[name] - figure) > TOLERANCE:
            raise click.ClickException(
                f"{task}, {name}: the plain rule gives {figure}, ours {ours.get(name)}; "
                "times of unequal results mean nothing."
            )


def table_row(task: str, num_examples: int, ours: Cost, plain: Cost | None) -> dict[str, Any]:
    """Return a row of the table; ratios are plain over ours."""
    cells = [task, f"{num_examples:,}", round(ours.duration_s, 1), round(ours.peak_mb)]
    if plain is None:
        cells += ["-"] * 4
    else:
        cells += [round(plain.duration_s, 1), round(plain.peak_mb)]
        cells += [round(plain.duration_s / ours.duration_s, 1)]
        cells += [round(plain.peak_mb / ours.peak_mb, 1)]
    return dict(zip(HEAD, [*cells, round(os.getloadavg()[0], 1)], strict=True))


@click.command()
@click.argument("tasks", nargs=-1, type=click.Choice(list(NUM_EXAMPLES)))
@click.option("--scale", default=1.0, show_default=True, help="Part of the true sizes.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Keep the data here, and take what is there [default: a temporary folder].",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(tasks: tuple[str, ...], scale: float, folder: Path | None, output: Path | None) -> None:
    """Print time and peak memory of scoring TASKS (default: all), ours and plain."""
    click.echo(f"Python {platform.python_version()}, {platform.platform()}, scale {scale:g}")
    click.echo(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for task in tasks or NUM_EXAMPLES:
            num_examples = max(1, round(scale * NUM_EXAMPLES[task]))
            data = make_data(task, num_examples, folder or root)
            ours, metrics = score_ours(task, data, root / f"{task}-ours")
            plain = None
            if task not in WITHOUT_PLAIN:
                plain, plain_metrics = score_plainly(task, data, root / f"{task}-plain.json")
                check_equal(task, metrics, plain_metrics)
            rows.append(table_row(task, num_examples, ours, plain))
            click.echo(f"| {' | '.join(map(str, rows[-1].values()))} |")
            if output is not None:
                write_json(output, {"rows": rows})


if __name__ == "__main__":
    main()
