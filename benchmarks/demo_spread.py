"""How much the demo's scores depend on the seed, and so on the rounding of a processor.

    python benchmarks/demo_spread.py --seeds 0,1,2

A run whose row is in `rows.json` of the output folder is not run again.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from common.json_files import read_json, write_json
from common.terminal_table import align
from experiments.demo import demo_tasks, make_recipe, run_task
from tasks.registry import get_task

SHOWN = ("finetuned", "base", "shuffled", "train_seconds")


@click.command()
@click.option("--tasks", help="Run these tasks, commas between [default: all of the demo].")
@click.option("--seeds", default="0,1,2", show_default=True, help="Train with each of these seeds.")
@click.option("--max_steps", type=int, help="Take this many steps per task, for a quick try.")
@click.option(
    "--output_dir",
    type=click.Path(path_type=Path),
    default=Path("runs/demo_spread"),
    show_default=True,
    help="Write the runs and rows.json to this folder.",
)
def main(tasks: str | None, seeds: str, max_steps: int | None, output_dir: Path) -> None:
    """Run the demo's tasks by several seeds and print mean and range of their scores."""
    file = output_dir / "rows.json"
    rows: dict[str, Any] = read_json(file) if file.is_file() else {}
    names = tasks.split(",") if tasks else demo_tasks()
    for name in names:
        for seed in map(int, seeds.split(",")):
            key = f"{name} {seed}"
            if key not in rows:
                recipe = replace(make_recipe(name, max_steps), seed=seed)
                rows[key], _ = run_task(get_task(name), recipe, output_dir / f"{name}-{seed}")
                write_json(file, rows)
    by_task = {name: [rows[f"{name} {seed}"] for seed in seeds.split(",")] for name in names}
    click.echo(spread_table(by_task))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "bitsandbytes"))
    click.echo(f"\n{processor()}; {packages}")


def spread_table(by_task: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return mean and range over the rows of each task as text for a terminal."""
    cells = [["task", "metric", *SHOWN]]
    for name, rows in by_task.items():
        values = [[float(row[column]) for row in rows] for column in SHOWN]
        shown = [f"{fmean(v):.2f} [{min(v):.2f}, {max(v):.2f}]" for v in values]
        cells.append([name, rows[0]["metric"], *shown])
    return align(cells, left=(0, 1))


def processor() -> str:
    """Return the name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    main()
