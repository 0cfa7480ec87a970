"""What a training costs before its first step, as the data grows: VQAv2 at three sizes.

    python benchmarks/growth.py                 # 4 k, 44 k and all 443,757 questions of VQAv2
    python benchmarks/growth.py --sizes 40,80   # tries the script out

The questions, with ten answers each, are invented (`metrics_data.py`), in the official files. The
command trains the embedded model, so that nearly all that is measured is the data's. A second run
of more steps gives the seconds that an example takes.
"""

import os
import platform
import random
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from metrics import HERE, Cost, measure
from metrics_data import write_vqav2
from PIL import Image

from common.json_files import write_json
from common.terminal_table import align

BATCH = 4
MORE_STEPS = 51
MOST_LINKS = 50_000  # of one file; a file system has its limit
SPLIT = "train2014"
HEAD = ("questions", "start s", "CPU s", "peak MB", "bytes a record", "CPU s an example", "load")


def make_data(num_questions: int, folder: Path) -> None:
    """Write the official files, and an image for every five questions, all with one content."""
    write_vqav2(num_questions, folder, random.Random(0), SPLIT)
    images = folder / SPLIT
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for number in range(-(-num_questions // 5)):
        path = images / f"COCO_{SPLIT}_{42 + 14 * number:012d}.jpg"
        if number % MOST_LINKS == 0:
            Image.fromarray(noise).save(path)
            original = path
        else:
            os.link(original, path)


def train(data: Path, num_steps: int, output_dir: Path) -> Cost:
    """Train some steps by our command."""
    options = {
        "--model_path": "tiny",
        "--data_root": data,
        "--output_dir": output_dir,
        "--max_steps": num_steps,
        "--batch_size": BATCH,
        "--quantization": "none",
        "--num_workers": 0,
    }
    words = [part for pair in options.items() for part in pair]
    script = HERE.parent / "finetuning" / "vqav2.py"
    return measure(script, *words, "--skip_evaluation", "--overwrite")


def row_of(num_questions: int, folder: Path) -> dict[str, Any]:
    """Measure one size."""
    data = folder / f"vqav2-{num_questions}"
    # in a process of its own: the peak of a child starts at what its parent held
    measure(HERE / "growth.py", "--make", num_questions, data)
    first = train(data, 1, folder / "first")
    longer = train(data, MORE_STEPS, folder / "longer")
    num_examples = (MORE_STEPS - 1) * BATCH
    return {
        "num_questions": num_questions,
        "start_s": first.duration_s,
        "cpu_s": first.cpu_s,
        "peak_mb": first.peak_mb,
        "example_cpu_s": (longer.cpu_s - first.cpu_s) / num_examples,
        "load": os.getloadavg()[0],
    }


def shown(row: dict[str, Any], smallest: dict[str, Any]) -> list[str]:
    """Return the cells of a row; the bytes of a record are those beyond the smallest size."""
    added = row["num_questions"] - smallest["num_questions"]
    grown = 1e6 * (row["peak_mb"] - smallest["peak_mb"])
    return [
        f"{row['num_questions']:,}",
        f"{row['start_s']:.1f}",
        f"{row['cpu_s']:.1f}",
        f"{row['peak_mb']:.0f}",
        f"{grown / added:.0f}" if added else "-",
        f"{row['example_cpu_s']:.3f}",
        f"{row['load']:.1f}",
    ]


@click.command()
@click.option("--sizes", default="4000,44000,443757", show_default=True, help="Take these sizes.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
@click.option("--make", nargs=2, type=(int, click.Path(path_type=Path)), hidden=True)
def main(sizes: str, output: Path | None, make: tuple[int, Path] | None) -> None:
    """Print seconds to the end of the first step, peak memory, and what one record adds."""
    if make is not None:
        make_data(*make)
        return
    click.echo(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in map(int, sizes.split(",")):
            rows.append(row_of(size, Path(temporary)))
            if output is not None:
                write_json(output, {"rows": rows})
    click.echo(align([list(HEAD), *(shown(row, rows[0]) for row in rows)], left=()))


if __name__ == "__main__":
    main()
