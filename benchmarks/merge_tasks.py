"""What merging keeps of the sample tasks: each mode beside own adapters and joint training.

    palitune demo --output_dir runs/demo
    python benchmarks/merge_tasks.py --demo_dir runs/demo

For each pair of the demo's adapters one adapter is trained on both tasks jointly, with the demo's
recipe, and merges of the two are scored in memory on the held-out examples.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from common.json_files import write_json
from experiments.demo import RECIPE, make_recipe, sample_trial
from finetuning.training.job import Job
from finetuning.training.run import finetune
from merging.algebra.adapters import Adapter
from merging.algebra.full_model import Onto
from merging.algebra.merge import start_merge
from merging.algebra.modes import default_options
from merging.algebra.reader import read_adapter
from merging.tables import share
from merging.trial import Candidate, Retention, Scores, retention
from tasks.base import TaskSource
from tasks.registry import get_task
from tasks.sample import sample_source

MERGES: dict[str, dict[str, Any]] = {
    "linear": {"mode": "linear"},
    "balanced": {"mode": "balanced"},
    "balanced, lambda 0.7": {"mode": "balanced", "lam": 0.7},  # about the adapters' mean norm
    "ties": {"mode": "ties"},
    "tsv": {"mode": "tsv"},
    "core_ties": {"mode": "core_ties"},
}


def train_jointly(names: Sequence[str], folder: Path) -> Path:
    """Train one adapter for several tasks, for all their steps together, unless it is there."""
    if (folder / "adapter_model.safetensors").is_file():
        return folder
    tasks = map(get_task, names)
    steps = sum(make_recipe(name).max_steps or 0 for name in names)
    job = Job(
        tasks=tuple(TaskSource(task, sample_source(task)) for task in tasks),
        model_path="tiny",
        recipe=replace(RECIPE, max_steps=steps),
        output_dir=folder,
        overwrite=True,
        settings={"model_path": "tiny", "data_root": "sample"},
    )
    finetune(job)
    return folder


def candidate(
    name: str, adapters: Sequence[Adapter], onto: Onto, mode: str = "linear", **settings: Any
) -> Candidate:
    """Return a merge, or with one adapter and `linear` the adapter itself."""
    merge = start_merge(adapters, mode, default_options(mode, len(adapters), **settings))
    return Candidate(name, onto, list(merge.modules), merge.dense)


def score_pair(
    names: Sequence[str], demo_dir: Path
) -> tuple[dict[str, Scores], dict[str, Retention]]:
    """Return the scores and retention of base, adapters, joint training and each mode."""
    adapters = [read_adapter(demo_dir / name) for name in names]
    joint = read_adapter(train_jointly(names, demo_dir / f"joint-{'-'.join(names)}"))
    trial = sample_trial(names, RECIPE.max_eval_samples)
    alone = zip(names, adapters, strict=True)
    scores = trial.scores(
        [
            replace(candidate("base", adapters[:1], "original"), modules=()),
            *(candidate(f"own {name}", [adapter], "nf4") for name, adapter in alone),
            candidate("joint", [joint], "nf4"),
            *(candidate(name, adapters, "original", **given) for name, given in MERGES.items()),
        ]
    )
    return scores, retention(scores, {name: [f"own {name}"] for name in names})


@click.command()
@click.option("--demo_dir", type=click.Path(path_type=Path), default=Path("runs/demo"))
@click.option("--tasks", default="coco_captioning,gqa,vqav2", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to this JSON file.")
def main(demo_dir: Path, tasks: str, output: Path | None) -> None:
    """Print one table per pair of tasks: score and, in brackets, its share of the own adapter's."""
    rows = []
    for names in itertools.combinations(tasks.split(","), 2):
        scores, kept = score_pair(names, demo_dir)
        click.echo(f"\n| | {' | '.join(names)} |\n| --- | --- | --- |")
        for name, row in scores.items():
            cells = [f"{value:.2f} ({share(kept[name][task])})" for task, value in row.items()]
            click.echo(f"| {name} | {' | '.join(cells)} |")
            rows.append({"adapter": name, "scores": dict(row)})
        if output is not None:
            write_json(output, {"rows": rows})


if __name__ == "__main__":
    main()
