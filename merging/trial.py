"""Score updates that are added to the base in memory, and choose among them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from random import Random
from statistics import fmean
from typing import Any

import msgspec
from torch import Tensor

from common.progress import Bar
from evaluation.answer_log import AnswerLog
from evaluation.prediction import answer_with, make_predictor
from evaluation.prompting import make_prompter
from evaluation.provenance import describe_data
from merging.algebra.base import Base
from merging.algebra.full_model import Onto
from merging.algebra.rounding import nf4_round_trip
from models.checkpoint import Checkpoint
from models.loading import load_family, load_model
from models.settings import Auto
from tasks.base import Dataset
from tasks.report import score

Scores = dict[str, float]  # task name -> its headline
Interval = tuple[float, float] | None  # at 95 %; None of a single example
_FOUND = msgspec.json.Decoder(tuple[float, Interval])
Retention = dict[str, float | None]  # task name -> share of the score of the task's own adapter


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An update that is to be scored.

    Attributes:
        name: what the table calls it.
        onto: what it is added to.
        modules: those that it changes.
        dense: module name -> (d_out, d_in) float32.
    """

    name: str
    onto: Onto
    modules: Sequence[str]
    dense: Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate's scores.

    Attributes:
        scores: of each task.
        intervals_95: of each, by `tasks.metrics.uncertainty`.
    """

    scores: Scores
    intervals_95: dict[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """The examples on which candidates are scored, and the model that they are added to.

    Attributes:
        checkpoint: the base.
        base: the same, as its files.
        datasets: one per task.
        settings: task name -> settings of the run that trained on it: prompt and text budget.
        batch_size: examples answered at once, or `auto`.
        processor_checkpoint: the base with the processor that encodes images and texts.
        device: as in `models.loading.choose_device`.
        log: takes each score as it comes, and gives those that it has.
    """

    checkpoint: Checkpoint
    base: Base
    datasets: Sequence[Dataset]
    settings: Mapping[str, Mapping[str, Any]]
    batch_size: int | Auto
    device: str
    processor_checkpoint: Checkpoint | None = None
    log: AnswerLog | None = None

    def scores(self, candidates: Sequence[Candidate]) -> dict[str, Scores]:
        """Name -> scores; `measure` says more."""
        return {name: measured.scores for name, measured in self.measure(candidates).items()}

    def measure(
        self, candidates: Sequence[Candidate], datasets: Sequence[Dataset] | None = None
    ) -> dict[str, Measured]:
        """Score each candidate on every task; one model is in memory at a time.

        Args:
            candidates: of different names.
            datasets: of the tasks; those of the trial where None.
        """
        datasets = datasets or self.datasets
        found_before = {} if self.log is None else self.log.answers
        known = {key: _FOUND.decode(text) for key, text in found_before.items()}
        todo = [(c, d) for c in candidates for d in datasets if _key(c, d) not in known]
        total = len(candidates) * len(datasets)
        label = f"scoring on {', '.join(dataset.task.name for dataset in datasets)}"
        with Bar(label, total, "scores", total - len(todo)) as bar:
            for (candidate, dataset), found in self._scores_of(todo):
                known[_key(candidate, dataset)] = found
                if self.log is not None:
                    self.log.add([_key(candidate, dataset)], [json.dumps(found)])
                bar.advance()
        return {
            candidate.name: Measured(
                {d.task.name: known[_key(candidate, d)][0] for d in datasets},
                {d.task.name: known[_key(candidate, d)][1] for d in datasets},
            )
            for candidate in candidates
        }

    def _scores_of(
        self, todo: Sequence[tuple[Candidate, Dataset]]
    ) -> Iterator[tuple[tuple[Candidate, Dataset], tuple[float, Interval]]]:
        """Yield each score as it comes; what is added to the same weights comes together."""
        for onto in sorted({candidate.onto for candidate, _ in todo}):
            model, predictors = self._load(onto)
            mine = [pair for pair in todo if pair[0].onto == onto]
            for candidate, pairs in groupby(mine, key=itemgetter(0)):
                with _added(model, candidate):
                    for pair in pairs:
                        yield pair, _headline(predictors[pair[1].task.name], pair[1])

    def _load(self, onto: Onto) -> tuple[Any, dict[str, Any]]:
        family = load_family(self.processor_checkpoint or self.checkpoint)
        loaded = load_model(self.checkpoint, quantization="none", device=self.device, family=family)
        if onto == "nf4":
            for name in sorted(self.base.quantized_in_training()):
                weight = loaded.model.get_submodule(name).weight
                rounded = nf4_round_trip(weight.data.float().cpu())
                weight.data = rounded.to(weight.device, weight.dtype)
        predictors = {}
        for dataset in self.datasets:
            known = self.settings.get(dataset.task.name, {})
            prompter = make_prompter(
                dataset.task,
                family,
                known.get("prompt_template"),
                known.get("max_length"),
                known.get("truncate", False),
                known.get("system_message"),
            )
            predictors[dataset.task.name] = make_predictor(
                loaded.model,
                dataset.task,
                prompter,
                batch_size=self.batch_size,
                generation=known,
            )
        return loaded.model, predictors


def retention(
    scores: Mapping[str, Scores], owners: Mapping[str, Sequence[str]]
) -> dict[str, Retention]:
    """Score / the score of the task's own adapter, of every candidate and task.

    Args:
        scores: candidate -> task -> score.
        owners: task -> the candidates trained on it; the best of them is what counts. Where that
            scores 0 there is nothing to retain: None.
    """
    best = {task: max(scores[name][task] for name in names) for task, names in owners.items()}
    return {
        name: {task: value / best[task] if best[task] > 0 else None for task, value in row.items()}
        for name, row in scores.items()
    }


def unknown_tasks(kept: Retention) -> list[str]:
    """Return the tasks whose own adapter scores 0, of any candidate's retention."""
    return [task for task, share in kept.items() if share is None]


def choose(
    trial: Trial,
    adapters: Sequence[Candidate],
    candidates: Sequence[Candidate],
    owners: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, Any]:
    """Choose the candidate whose worst task keeps most, and confirm it on other examples.

    Args:
        trial: what to score on: half of the examples chooses, the other half confirms.
        adapters: each adapter alone.
        candidates: merges to choose from.
        owners: as in `retention`.
        seed: of the halves.

    Returns:
        `candidates` (name, scores, intervals_95, retention, worst, mean), `chosen`, `confirmed`
        on the rest, and `notes` on tasks that have no say because their own adapter scores 0.

    Raises:
        ValueError: no task has a say.
    """
    halves = [_halves(dataset, seed) for dataset in trial.datasets]
    choosing, confirming = ([pair[i] for pair in halves] for i in (0, 1))
    rows = _rows(trial, adapters, candidates, owners, choosing)
    unknown = unknown_tasks(rows[0]["retention"])
    if len(unknown) == len(choosing):
        raise ValueError(
            f"No adapter scores above 0 on its own task ({', '.join(unknown)}), so scores cannot "
            "choose between merges; raise --max_eval_samples, or leave out --evaluate."
        )
    chosen = max(rows, key=lambda row: (row["worst"], row["mean"]))
    winner = [c for c in candidates if c.name == chosen["name"]]
    (confirmed,) = _rows(trial, adapters, winner, owners, confirming)
    return {
        "num_choosing": {d.task.name: len(d) for d in choosing},
        "num_confirming": {d.task.name: len(d) for d in confirming},
        "candidates": rows,
        "chosen": chosen["name"],
        "confirmed": confirmed,
        "notes": [
            f"{task} has no say in the choice: its own adapter scores 0 on the examples that "
            "choose, so that nothing can be retained of it."
            for task in unknown
        ],
    }


def _rows(
    trial: Trial,
    adapters: Sequence[Candidate],
    candidates: Sequence[Candidate],
    owners: Mapping[str, Sequence[str]],
    datasets: Sequence[Dataset],
) -> list[dict[str, Any]]:
    measured = trial.measure([*adapters, *candidates], datasets)
    kept = retention({name: found.scores for name, found in measured.items()}, owners)
    rows = []
    for candidate in candidates:
        shares = [share for share in kept[candidate.name].values() if share is not None]
        rows.append(
            {
                "name": candidate.name,
                "scores": measured[candidate.name].scores,
                "intervals_95": measured[candidate.name].intervals_95,
                "retention": kept[candidate.name],
                "worst": min(shares, default=None),
                "mean": fmean(shares) if shares else None,
            }
        )
    return rows


def _key(candidate: Candidate, dataset: Dataset) -> str:
    """What one score is of: the candidate, the weights below it, and the examples."""
    data = describe_data(dataset.split, dataset)["fingerprint"]
    return f"{candidate.name}, {candidate.onto}, {dataset.task.name} {data}"


def _headline(predictor: Any, dataset: Dataset) -> tuple[float, Interval]:
    report = score(answer_with(predictor, dataset.task, dataset), headline_only=True)
    assert report.value is not None and report.uncertainty, "an evaluation split has answers"
    return report.value, report.uncertainty.interval_95


@contextmanager
def _added(model: Any, candidate: Candidate) -> Iterator[None]:
    """Add updates to a model's weights, rounded once, for as long as the block runs."""
    before: dict[str, Tensor] = {}
    try:
        for name in candidate.modules:
            weight = model.get_submodule(name).weight
            before[name] = weight.data
            delta = candidate.dense(name).to(weight.device)
            weight.data = (weight.data.float() + delta).to(weight.dtype)
        yield
    finally:
        for name, data in before.items():
            model.get_submodule(name).weight.data = data


def _halves(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    order = list(range(len(dataset)))
    Random(seed).shuffle(order)
    middle = (len(order) + 1) // 2
    first, second = (
        Dataset(dataset.task, dataset.split, [dataset.rows[i] for i in sorted(part)])
        for part in (order[:middle], order[middle:])
    )
    return first, second
