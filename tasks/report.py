"""Evaluate anything that answers examples: one prediction each, one official score per split."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from tasks.base import Dataset, Example, Scores, Task
from tasks.checks import check_ids, check_references
from tasks.contract import checked_scores
from tasks.faults import summary
from tasks.metrics.uncertainty import Uncertainty, mean_uncertainty
from tasks.shown_figures import for_longer_texts
from tasks.table_images import join_names

Predict = Callable[[Sequence[Example]], Sequence[str]]  # generated texts, in the same order


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Predictions of a split and what the metric says of them.

    Attributes:
        prompts: the texts sent to the model; empty where the caller does not record them.
        raw_predictions: the texts that came back.
        predictions: what the metric was given of them.
        scores: None on a split without answers, or before it was scored.
        uncertainty: of the headline; None where there are no scores.
        notes: sentences that must stand beside the figures, those of the scores apart.
        extra_metrics: groups of figures beside the official ones, each an entry of metrics.json.
        additions: other entries of metrics.json.
    """

    task: Task
    split: str
    examples: Sequence[Example]
    prompts: Sequence[str]
    raw_predictions: Sequence[str]
    predictions: Sequence[str]
    scores: Scores | None = None
    uncertainty: Uncertainty | None = None
    notes: tuple[str, ...] = ()
    extra_metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    additions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """Return the headline metric."""
        return self.metrics[self.task.metric]

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return every metric by name; None where it is not available."""
        if self.scores is None:
            return {self.task.metric: None}
        return dict(self.scores.metrics)

    @property
    def figures_for_longer(self) -> tuple[str, ...]:
        """Return the metrics that say little of answers as short as the references."""
        references = (example.references for example in self.examples)
        return for_longer_texts(self.metrics, self.task.metric, references)

    @property
    def reasons(self) -> dict[str, str]:
        """Return why a metric is None, by its name."""
        if self.scores is None and self.split in self.task.hidden_splits:
            return {self.task.metric: f"the answers of split '{self.split}' are withheld"}
        if self.scores is None:
            return {self.task.metric: "there are no answers to score against"}
        return dict(self.scores.reasons)

    @property
    def scores_by_tag(self) -> dict[str, dict[str, list[float]]]:
        """Return the scores under each value of the task's tags; a tag of no example is left out.

        The values come in the order of the alphabet, whole numbers by their size behind the others.
        """
        tables: dict[str, defaultdict[str, list[float]]] = {
            tag: defaultdict(list) for tag in self.task.tags
        }
        scored = zip(self.examples, self.scores.values, strict=True) if self.scores else ()
        for example, value in scored:
            if value is not None:
                for tag in tables.keys() & example.tags.keys():
                    for kind in dict.fromkeys(example.tags[tag]):
                        tables[tag][kind].append(value)
        return {
            tag: {kind: table[kind] for kind in sorted(table, key=_numbers_by_size)}
            for tag, table in tables.items()
            if table
        }

    @property
    def breakdown(self) -> dict[str, dict[str, float]]:
        """Return the mean score by each tag's values, in the headline's units."""
        return {
            tag: {kind: fmean(scores) for kind, scores in table.items()}
            for tag, table in self.scores_by_tag.items()
        }

    @property
    def counted(self) -> list[float]:
        """Return the scores whose mean is the headline."""
        return [value for value in self.scores.values if value is not None] if self.scores else []

    @property
    def num_examples(self) -> int:
        """Return the number of examples behind the headline, which may be no mean of theirs."""
        if self.scores is None:
            return len(self.examples)
        if self.counted or self.value is None:
            return len(self.counted)
        return len(self.answered.examples)

    @property
    def answered(self) -> "Report":
        """Return the part of the report whose examples have references."""
        kept = [index for index, example in enumerate(self.examples) if example.references]
        if len(kept) == len(self.examples):
            return self
        return replace(
            self,
            examples=[self.examples[index] for index in kept],
            prompts=[self.prompts[index] for index in kept] if self.prompts else (),
            raw_predictions=[self.raw_predictions[index] for index in kept],
            predictions=[self.predictions[index] for index in kept],
        )

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Return every sentence that must stand beside the figures."""
        return (self.scores.notes if self.scores else ()) + self.notes

    def metrics_json(self) -> dict[str, Any]:
        """Return the content of metrics.json: unrounded numbers, null where not available."""
        content: dict[str, Any] = {
            "task": self.task.name,
            "split": self.split,
            "num_examples": self.num_examples,
            "metric": self.task.metric,
            "value": self.value,
            "metrics": self.metrics,
            "breakdown": self.breakdown,
        }
        if self.uncertainty:
            content["uncertainty"] = asdict(self.uncertainty)
        if self.num_examples < len(self.examples):
            content["num_questions_read"] = len(self.examples)
        if self.reasons:
            content["reasons"] = self.reasons
        if self.all_notes:
            content["notes"] = list(self.all_notes)
        described = self.scores.additions if self.scores else {}
        return {**content, **described, **self.extra_metrics, **self.additions}

    def prediction_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of predictions.jsonl, one example after the other."""
        for index, example in enumerate(self.examples):
            yield {
                "id": example.example_id,
                "question": example.turns[-1].text,
                "image": example.image.name,
                "tags": example.tags,
                "prompt": self.prompts[index] if self.prompts else None,
                "raw_prediction": self.raw_predictions[index],
                "prediction": self.predictions[index],
                "references": example.references,
                "score": self.scores.values[index] if self.scores else None,
                **({"images": [i.name for i in example.images]} if example.further_images else {}),
            }

    def table_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of predictions.csv, one example after the other."""
        for index, example in enumerate(self.examples):
            yield {
                "id": example.example_id,
                "image": join_names(example.images),
                "instruction": example.turns[-1].text,
                "prediction": self.predictions[index],
                "raw_prediction": self.raw_predictions[index],
                "references": example.references,
            }


def evaluate(
    task: Task,
    predict: Predict,
    dataset: Dataset,
    prompts: Sequence[str] = (),
    *,
    headline_only: bool = False,
) -> Report:
    """Predict a split and score it as a whole, as its metric demands.

    Args:
        task: how to clean and score.
        predict: the model, or a lambda; opens the images.
        dataset: the split, or a subset of it.
        prompts: the texts that `predict` will send, for the record.
        headline_only: leave out figures that take long.

    Raises:
        ValueError: the split is empty or has an id twice, or a scored one lacks references.
    """
    return score(answer(task, predict, dataset, prompts), headline_only=headline_only)


def answer(task: Task, predict: Predict, dataset: Dataset, prompts: Sequence[str] = ()) -> Report:
    """Predict a split, as `evaluate` does; the report has no scores yet."""
    examples = list(dataset)
    check_ids((e.example_id for e in examples), f"{task.name} split '{dataset.split}'")
    raw_predictions = list(predict(examples))
    skipped = summary(dataset.skipped)
    note = f"Skipped: {skipped['count']} examples, as their images could not be read."
    assert len(raw_predictions) == len(examples), "predict must answer each example once"
    assert len(prompts) in (0, len(examples)), "prompts must run parallel to the examples"
    return Report(
        task=task,
        split=dataset.split,
        examples=examples,
        prompts=prompts,
        raw_predictions=raw_predictions,
        predictions=[task.clean(raw) for raw in raw_predictions],
        notes=(note,) if dataset.skipped else (),
        additions={"skipped": skipped} if dataset.skipped else {},
    )


def score(report: Report, *, headline_only: bool = False) -> Report:
    """Score predictions as a whole, unless the answers of their split are withheld.

    A file of the user's own may hold questions alone, or some without an answer, whichever split it
    stands for: those are left out of the figures, and that is noted.

    Raises:
        ValueError: an example of other data lacks references.
    """
    task = report.task
    part = report.answered if task.reads_tables else report
    if not part.examples or report.split in task.hidden_splits:
        return report
    check_references(task, report.split, part.examples)
    score_as_whole = task.score_headline if headline_only else task.score
    found = score_as_whole(list(part.predictions), list(part.examples))  # which may change them
    scores = checked_scores(task, found, len(part.examples))
    if num_without := len(report.examples) - len(part.examples):
        values = iter(scores.values)
        note = f"Not scored: {num_without} of {len(report.examples)} examples, without an answer."
        scores = replace(
            scores,
            values=[next(values) if example.references else None for example in report.examples],
            notes=(*scores.notes, note),
        )
    report = replace(report, scores=scores)
    counted, bounds = report.counted, (0.0, task.metric_range)
    return replace(report, uncertainty=mean_uncertainty(counted, bounds) if counted else None)


def _numbers_by_size(kind: str) -> tuple[int, str]:
    return (int(kind), kind) if kind.isdecimal() else (-1, kind)
