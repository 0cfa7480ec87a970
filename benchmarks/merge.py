"""Merging two adapters at PaliGemma-3B's shapes: `merge_vlm.py` beside PEFT's own merging.

    python benchmarks/merge.py                                   # two adapters into one
    python benchmarks/merge.py --full                            # and into a full model
    python benchmarks/merge.py --layers 1 --small --only linear  # tries the script out

Adapters are random, rank 16, on the seven projections of each text layer. Each row is a process of
its own, start-up, reading and writing included. PEFT's is `add_weighted_adapter` on empty linear
layers of the same shapes: its memory lacks the base model, which its users have to load. Ratios of
time leave the imports out on both sides.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from metrics import Cost, measure

STEPS = Path(__file__).with_name("merge_steps.py")
COMMAND = Path(__file__).parents[1] / "merge_vlm.py"
OURS = ("linear", "balanced", "core_ties", "tsv", "ties")
THEIRS = ("peft-linear", "peft-cat", "peft-svd", "peft-ties_svd")
SLOW = ("peft-svd", "peft-ties_svd")  # an SVD of each whole matrix; on --peft_layers layers


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        name: of OURS, THEIRS, or a part of `--full`.
        cost: of the whole process.
        work_s: seconds of it from the imports' end on.
        is_scaled: whether the times were measured on fewer layers and multiplied.
        error: largest |written - exact| / |exact| of three modules.
    """

    name: str
    cost: Cost
    work_s: float
    is_scaled: bool = False
    error: float | None = None

    def line(self, ours: "Row | None") -> str:
        """Return the row as it is printed; ratios are its figures over ours."""
        about = "≈ " if self.is_scaled else ""
        cells = [
            self.name,
            f"{about}{self.cost.duration_s:.1f}",
            f"{about}{self.work_s:.1f}",
            f"{self.cost.peak_mb:.0f}",
            "-" if self.error is None else f"{self.error:.1e}",
            "-" if ours is None else f"{self.work_s / ours.work_s:.1f}",
            "-" if ours is None else f"{self.cost.peak_mb / ours.cost.peak_mb:.1f}",
        ]
        return f"| {' | '.join(cells)} |"


@click.command()
@click.option("--layers", default=18, show_default=True, help="Text layers.")
@click.option("--small", is_flag=True, help="Tiny shapes.")
@click.option("--full", is_flag=True, help="Also TIES into a full model, on a base of real bytes.")
@click.option("--peft_layers", default=1, show_default=True, help="Of PEFT's SVD kinds.")
@click.option("--only", multiple=True, type=click.Choice(OURS + THEIRS), help="Just these rows.")
def main(
    layers: int,
    small: bool,
    full: bool,
    peft_layers: int,
    only: tuple[str, ...],
) -> None:
    """Print time, peak memory and error of merging, ours and PEFT's."""
    click.echo(f"{layers} layers; load {os.getloadavg()[0]:.1f} at the start")
    click.echo("| merge | s | without imports | MB | error | x time | x memory |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rows: dict[str, Row] = {}
        for name in only or OURS + THEIRS:
            used = min(layers, peft_layers) if name in SLOW else layers
            data = make_data(root, used, small, real=False)
            rows[name] = merge(name, data, root / name, layers / used)
            counterpart = {"peft-ties_svd": "ties"}.get(name, "linear")
            click.echo(rows[name].line(rows.get(counterpart) if name in THEIRS else None))
        if full:
            for line in compare_full(make_data(root, layers, small, real=True)):
                click.echo(line)
    click.echo(f"load {os.getloadavg()[0]:.1f} at the end")


def make_data(root: Path, layers: int, small: bool, *, real: bool) -> Path:
    """Make the folder with `base`, `a` and `b`, unless it is there."""
    folder = root / f"{layers}-layers{'-real' if real else ''}"
    if not folder.is_dir():
        flags = [name for name, is_on in (("--small", small), ("--real", real)) if is_on]
        measure(STEPS, "data", folder, layers, *flags)
    return folder


def merge(name: str, data: Path, output: Path, times: float) -> Row:
    """Merge in one way, and hold what was written against the exact update."""
    if name in OURS:
        cost, work_s = merge_by_us(name, data, output, "--export", "adapter")
        rule, written = name, output
    else:
        kind = name.removeprefix("peft-")
        cost = measure(STEPS, "peft", data, kind, output)
        work_s = read_number(output / "seconds.json")
        cost = Cost(cost.duration_s + (times - 1) * work_s, cost.peak_mb)
        rule, written = "ties" if kind == "ties_svd" else "linear", output / "merged"
    measure(STEPS, "error", data, rule, written, output / "error.json")
    return Row(name, cost, times * work_s, times > 1, read_number(output / "error.json"))


def merge_by_us(mode: str, data: Path, output: Path, *options: str) -> tuple[Cost, float]:
    """Run our command; gives what it took, and the seconds from its imports' end on."""
    paths = ["--base_model", data / "base", "--model_a", data / "a", "--model_b", data / "b"]
    cost = measure(COMMAND, *paths, "--mode", mode, "--output", output, *options)
    report = json.loads((output / "merge_report.json").read_text(encoding="utf-8"))
    return cost, report["seconds"]


def read_number(path: Path) -> float:
    """Read the number that a process of ours left."""
    return float(json.loads(path.read_text(encoding="utf-8")))


def compare_full(data: Path) -> Iterator[str]:
    """Time TIES into a full model, beside copying the base and the arithmetic without files."""
    ours = Row("ties, full model", *merge_by_us("ties", data, data / "merged"))
    shutil.rmtree(data / "merged")
    yield ours.line(None)
    steps = []
    for name, step in (("copy of the base", "copy"), ("arithmetic of ties", "arithmetic")):
        cost = measure(STEPS, step, data, data / "seconds.json")
        steps.append(Row(name, cost, read_number(data / "seconds.json")))
        yield steps[-1].line(None)
    both = Cost(sum(row.cost.duration_s for row in steps), max(row.cost.peak_mb for row in steps))
    yield Row("copy and arithmetic", both, sum(row.work_s for row in steps)).line(ours)


if __name__ == "__main__":
    main()
