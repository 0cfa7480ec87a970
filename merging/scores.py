"""A merge measured: its candidates, the base and each adapter on the tasks of `--evaluate`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from merging.algebra.full_model import Onto
from merging.algebra.merge import Merge, start_merge, with_mode
from merging.algebra.modes import default_options
from merging.inputs import Inputs
from merging.request import MergeRequest, TrialRequest
from merging.settings import Settings, candidate_name
from merging.trial import Candidate, Trial, choose, retention, unknown_tasks
from models.run_record import trained_on
from tasks.base import Dataset
from tasks.images import check_dataset
from tasks.splits import resolve_split

logger = logging.getLogger(__name__)


def load_datasets(request: MergeRequest, *, is_halved: bool) -> list[Dataset]:
    """Load the default evaluation split of each task, capped.

    Args:
        request: names the tasks, the sources and the number of examples.
        is_halved: one half of the examples is to choose and the other to confirm.

    Raises:
        ValueError: the data is not there, or too little to be halved.
    """
    datasets = []
    for task, source in ((pair.task, pair.source) for pair in request.trial.tasks):
        dataset, note = resolve_split(task, None, source, task.eval_splits)
        if note:
            logger.warning(note)
        dataset = dataset.subset(request.trial.max_eval_samples, request.seed)
        if is_halved and len(dataset) < 2:
            raise ValueError(
                f"One half of the examples chooses the merge and the other confirms it, and of "
                f"{task.name} there is {len(dataset)}; raise --max_eval_samples, or name a --mode."
            )
        check_dataset(dataset)
        datasets.append(dataset)
    return datasets


def make_trial(inputs: Inputs, datasets: Sequence[Dataset], request: TrialRequest) -> Trial | None:
    """Return the trial that scores candidates; None where no task is named."""
    if not datasets:
        return None
    for adapter in inputs.adapters:
        if adapter.saved or adapter.biases:
            raise ValueError(
                f"--evaluate adds low-rank updates and DoRA alone, and adapter {adapter.folder} "
                "holds whole tensors or biases too; merge without it and score the result by "
                "eval.py."
            )
    return Trial(
        checkpoint=inputs.checkpoint,
        processor_checkpoint=inputs.processor_checkpoint,
        base=inputs.base,
        datasets=datasets,
        settings=inputs.prompt_settings,
        batch_size=request.batch_size,
        device=request.device,
    )


def trained_onto(run: Mapping[str, Any]) -> Onto:
    """Return the weights that an adapter was fitted to, by its run.json."""
    return "nf4" if run.get("settings", {}).get("quantization") == "nf4" else "original"


def sweep_grid(
    trial: Trial,
    inputs: Inputs,
    merged: Merge,
    grid: Sequence[Settings],
    onto: Onto,
    seed: int,
) -> tuple[dict[str, Any], Merge]:
    """Measure each candidate of a grid; the record of it, and the merge that was chosen."""
    merges = {}
    for settings in grid:
        found = default_options(num_adapters=len(inputs.adapters), **settings)
        merges[candidate_name(settings)] = with_mode(merged, settings["mode"], found)
    record = choose(
        trial,
        _adapter_candidates(inputs),
        [Candidate(name, onto, list(m.modules), m.dense) for name, m in merges.items()],
        _owners(inputs, trial.datasets),
        seed,
    )
    return record, merges[record["chosen"]]


def evaluate(trial: Trial, inputs: Inputs, merged: Merge, onto: Onto) -> dict[str, Any]:
    """Score base, adapters and merge; return scores, their intervals and retention.

    The merge is scored on both kinds of weights: `onto_gap` is, of each task, its score on the
    original ones less that on those rounded to NF4.
    """
    names = list(merged.modules)
    other: Onto = "original" if onto == "nf4" else "nf4"
    on = {onto: "merged", other: f"merged onto {other}"}
    measured = trial.measure(
        [
            Candidate("base", "original", (), merged.dense),
            *_adapter_candidates(inputs),
            *(Candidate(name, place, names, merged.dense) for place, name in on.items()),
        ]
    )
    scores = {name: found.scores for name, found in measured.items()}
    kept = retention(scores, _owners(inputs, trial.datasets))
    original, rounded = (scores[on[place]] for place in ("original", "nf4"))
    return {
        "num_examples": {dataset.task.name: len(dataset) for dataset in trial.datasets},
        "splits": {dataset.task.name: dataset.split for dataset in trial.datasets},
        "metrics": {dataset.task.name: dataset.task.metric for dataset in trial.datasets},
        "scores": scores,
        "intervals_95": {name: found.intervals_95 for name, found in measured.items()},
        "retention": kept,
        "onto_gap": {task: value - rounded[task] for task, value in original.items()},
        "notes": [
            f"No adapter scores above 0 on {task}, so what is retained of it is not known."
            for task in unknown_tasks(kept["merged"])
        ],
    }


def _adapter_names(inputs: Inputs) -> list[str]:
    """Return the adapters' names in tables; each is unique, and none is `base`."""
    return [f"adapter {n}: {adapter.folder}" for n, adapter in enumerate(inputs.adapters, start=1)]


def _adapter_candidates(inputs: Inputs) -> list[Candidate]:
    """Each adapter alone, on the weights that it was trained on."""
    candidates = []
    names = _adapter_names(inputs)
    for name, adapter, run in zip(names, inputs.adapters, inputs.runs, strict=True):
        settings = default_options("linear", 1)
        alone = start_merge([adapter], "linear", settings, read_weight=inputs.base.read_weight)
        candidates.append(Candidate(name, trained_onto(run), list(alone.modules), alone.dense))
    return candidates


def _owners(inputs: Inputs, datasets: Sequence[Dataset]) -> dict[str, list[str]]:
    """Task -> the adapters that were trained on it; all of them where none says so."""
    names = _adapter_names(inputs)
    return {
        task: [
            name for name, run in zip(names, inputs.runs, strict=True) if task in trained_on(run)
        ]
        or names
        for task in (dataset.task.name for dataset in datasets)
    }
