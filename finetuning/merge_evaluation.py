"""A merge measured: its candidates, the base and each adapter on the tasks of `--evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from finetuning import joint
from finetuning.merge_trial import Candidate, Trial, choose, retention
from finetuning.provenance import trained_on
from merging.adapters import Adapter
from merging.base import Base
from merging.full_model import Onto
from merging.merge import Merge, start_merge, with_mode
from merging.methods import default_options
from models.checkpoint import Checkpoint
from tasks.base import Dataset
from tasks.images import check_dataset
from tasks.registry import get_task
from tasks.splits import resolve_split


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is merged.

    Attributes:
        checkpoint: the base, resolved.
        base: the same, as its files.
        adapters: in the order given.
        runs: each adapter's run.json, empty where it has none.
        warnings: of bases that are named otherwise.
    """

    checkpoint: Checkpoint
    base: Base
    adapters: Sequence[Adapter]
    runs: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]


def load_datasets(values: Mapping[str, Any]) -> list[Dataset]:
    """The default evaluation split of each task of `--evaluate`, capped."""
    if not values["evaluate"]:
        return []
    tasks = [get_task(name.strip()) for name in values["evaluate"].split(",")]
    nothing: dict[str, Any] = {"hub_columns": ()}
    hub = dict.fromkeys(("hub_repo", "hub_config", "hub_split", "hub_revision")) | nothing
    sources = joint.make_sources(tasks, hub | {"data_root": values["data_root"]})
    datasets = []
    for task, source in zip(tasks, sources, strict=True):
        dataset, note = resolve_split(task, None, source, task.eval_splits)
        if note:
            click.echo(note, err=True)
        dataset = dataset.subset(values["max_eval_samples"], values["seed"])
        check_dataset(dataset)
        datasets.append(dataset)
    return datasets


def make_trial(
    inputs: Inputs, datasets: Sequence[Dataset], values: Mapping[str, Any]
) -> Trial | None:
    """What candidates are scored on; None where no task is named."""
    if not datasets:
        return None
    for adapter in inputs.adapters:
        if adapter.saved or adapter.biases:
            raise ValueError(
                f"--evaluate adds low-rank updates and DoRA alone, and adapter {adapter.folder} "
                "holds whole tensors or biases too; merge without it and score the result by "
                "eval.py."
            )
    settings = {name: run["settings"] for run in reversed(inputs.runs) for name in trained_on(run)}
    return Trial(
        checkpoint=inputs.checkpoint,
        base=inputs.base,
        datasets=datasets,
        settings=settings,
        batch_size=values["batch_size"],
        device=values["device"],
    )


def trained_onto(run: Mapping[str, Any]) -> Onto:
    """The weights that an adapter was fitted to, by its run.json."""
    return "nf4" if run.get("settings", {}).get("quantization") == "nf4" else "original"


def sweep_grid(
    trial: Trial,
    inputs: Inputs,
    merged: Merge,
    grid: Sequence[Mapping[str, Any]],
    onto: Onto,
    seed: int,
) -> tuple[dict[str, Any], Merge]:
    """Measure each candidate of a grid; the record of it, and the merge that was chosen."""
    merges = {}
    for settings in grid:
        options = default_options(num_adapters=len(inputs.adapters), **settings)
        name = " ".join(f"{key}={value}" for key, value in settings.items())
        merges[name] = with_mode(merged, settings["mode"], options)
    found = choose(
        trial,
        _adapter_candidates(inputs),
        [Candidate(name, onto, list(m.modules), m.dense) for name, m in merges.items()],
        _owners(inputs, trial.datasets),
        seed,
    )
    return found, merges[found["chosen"]]


def evaluate(trial: Trial, inputs: Inputs, merged: Merge, onto: Onto) -> dict[str, Any]:
    """Scores and retention of base, adapters and merge; and what the other weights would give."""
    adapters = _adapter_candidates(inputs)
    names = list(merged.modules)
    candidates = [
        Candidate("base", "original", (), merged.dense),
        *adapters,
        Candidate("merged", onto, names, merged.dense),
    ]
    if any(candidate.onto == "nf4" for candidate in candidates):
        other: Onto = "original" if onto == "nf4" else "nf4"
        candidates.append(Candidate(f"merged onto {other}", other, names, merged.dense))
    scores = trial.scores(candidates)
    return {
        "num_examples": {dataset.task.name: len(dataset) for dataset in trial.datasets},
        "metrics": {dataset.task.name: dataset.task.metric for dataset in trial.datasets},
        "scores": scores,
        "retention": retention(scores, _owners(inputs, trial.datasets)),
    }


def retention_table(evaluation: Mapping[str, Any]) -> str:
    """Score and, in brackets, its share of the score of the task's own adapter."""
    width = max(map(len, evaluation["scores"]))
    metrics = evaluation["metrics"]
    heads = [f"{task} {metric}" for task, metric in metrics.items()]
    lines = [f"{'':<{width}}  " + "  ".join(heads)]
    for name, row in evaluation["scores"].items():
        cells = [
            f"{value:.2f} ({evaluation['retention'][name][task]:.2f})".rjust(len(head))
            for (task, value), head in zip(row.items(), heads, strict=True)
        ]
        lines.append(f"{name:<{width}}  " + "  ".join(cells))
    return "\n".join(lines)


def _adapter_candidates(inputs: Inputs) -> list[Candidate]:
    """Each adapter alone, on the weights that it was trained on."""
    candidates = []
    for adapter, run in zip(inputs.adapters, inputs.runs, strict=True):
        options = default_options("linear", 1)
        alone = start_merge([adapter], "linear", options, read_weight=inputs.base.read_weight)
        name = str(adapter.folder)
        candidates.append(Candidate(name, trained_onto(run), list(alone.modules), alone.dense))
    return candidates


def _owners(inputs: Inputs, datasets: Sequence[Dataset]) -> dict[str, list[str]]:
    """Task -> the adapters that were trained on it; all of them where none says so."""
    names = [str(adapter.folder) for adapter in inputs.adapters]
    return {
        task: [
            name for name, run in zip(names, inputs.runs, strict=True) if task in trained_on(run)
        ]
        or names
        for task in (dataset.task.name for dataset in datasets)
    }
