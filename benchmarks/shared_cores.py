"""What a training takes on cores that it shares: threads that wait by spinning, and by sleeping.

    python benchmarks/shared_cores.py

The same training of the small model is timed alone, beside a program that keeps one core busy, and
beside another such training, in turns: with GNU OpenMP's own number of turns of a waiting loop
(https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html), with PaliTune's, and with none.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import click

from common.json_files import read_json, write_json
from common.terminal_table import align

COUNTS = (300_000, 10_000, 0)
BESIDE = ("alone", "one busy core", "another training")
_NEVER = 1_000_000  # steps of what runs beside


def train(folder: Path, num_steps: int, count: int) -> subprocess.Popen[bytes]:
    """Start a training of the small model."""
    words = ["train", "digits", "--model_path", "tiny", "--batch_size", 16, "--skip_evaluation"]
    words += ["--max_steps", num_steps, "--output_dir", folder]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "palitune.main", *map(str, words)],
        env={**os.environ, "GOMP_SPINCOUNT": str(count)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def seconds_a_step(num_steps: int, count: int, beside: str) -> float:
    """Time one training beside something."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if beside == "another training":
            other = train(folder / "other", _NEVER, count)
        elif beside == "one busy core":
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        else:
            other = None
        if other is not None:
            stack.callback(other.wait)
            stack.callback(other.kill)
        if train(folder / "run", num_steps, count).wait():
            raise SystemExit("The training failed; run it by hand to see why.")
        log = read_json(folder / "run" / "trainer_state.json")["log_history"]
        (runtime,) = [entry["train_runtime"] for entry in log if "train_runtime" in entry]
        return float(runtime) / num_steps


def table(seconds: dict[tuple[int, str], list[float]]) -> str:
    """Return the medians in milliseconds a step."""
    rows: list[Sequence[str]] = [["turns", *(f"{count:,}" for count in COUNTS)]]
    for beside in BESIDE:
        medians = (median(seconds[count, beside]) for count in COUNTS)
        rows.append([beside, *(f"{1000 * value:.0f}" for value in medians)])
    return align(rows, left=(0,))


@click.command()
@click.option("--num_steps", default=40, show_default=True, help="Steps of each training.")
@click.option("--num_rounds", default=3, show_default=True, help="Times that each is measured.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(num_steps: int, num_rounds: int, output: Path | None) -> None:
    """Measure, and print the table."""
    seconds: dict[tuple[int, str], list[float]] = defaultdict(list)
    for _ in range(num_rounds):
        for beside in BESIDE:
            for count in COUNTS:
                seconds[count, beside].append(seconds_a_step(num_steps, count, beside))
    click.echo(table(seconds))
    if output is not None:
        rows = [{"turns": n, "beside": beside, "s": s} for (n, beside), s in seconds.items()]
        write_json(output, {"rows": rows})


if __name__ == "__main__":
    main()
