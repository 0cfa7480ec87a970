"""A grid of two variants of a model, its command and its summary."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from PIL import Image

from experiments.ablation_summary import SUMMARY
from experiments.grid_runs import Run
from palitune.main import palitune
from tasks.registry import get_task

CSV_QA = get_task("csv_qa")
COLOURS = ("red", "blue", "green")


def write_tables(folder: Path) -> dict[str, str]:
    """Coloured images and the question of their colour, in three tables."""
    rng = random.Random(0)
    found = {}
    for split, number in (("train", 12), ("val", 2), ("test", 4)):
        rows = ["image,instruction,response"]
        for index in range(number):
            colour = rng.choice(COLOURS)
            Image.new("RGB", (48, 32), colour).save(folder / f"{split}{index}.png")
            rows.append(f"{split}{index}.png,what colour is it?,{colour}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
        found[f"{split}_csv"] = str(folder / f"{split}.csv")
    return found


def write_grid(folder: Path, models: Sequence[tuple[str, str]], **training: Any) -> Path:
    variants = [
        {"name": "r2", "r": 2, "alpha": 4, "target_modules": "attention", "quantization": "none"},
        {"name": "r4", "r": 4, "alpha": 8, "quantization": "none"},
    ]
    grid = {
        "experiment_name": "try",
        "output_dir": str(folder / "results"),
        "data": write_tables(folder),
        "models": [{"name": name, "hf_model_id": path} for name, path in models],
        "lora_variants": variants,
        "training": {"max_steps": 2, "generation_max_new_tokens": 2, **training},
    }
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    return file


def option(run: Run, name: str) -> str:
    return run.options[run.options.index(f"--{name}") + 1]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(palitune, ["ablate", *map(str, arguments)])


def summary(grid: Path) -> dict[str, dict[str, Any]]:
    file = grid.parent / "results" / "try" / SUMMARY
    return {row["run"]: row for row in json.loads(file.read_text())["runs"]}
