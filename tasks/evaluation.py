"""Evaluate anything that answers examples: one prediction each, one official score per split."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tasks.base import Dataset, Example, Scores, Task, check_ids
from tasks.files import write_text

Predict = Callable[[Sequence[Example]], Sequence[str]]  # generated texts, in the same order


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Predictions of a split and what the metric says of them.

    Attributes:
        prompts: the texts sent to the model; empty where the caller does not record them.
        raw_predictions: the texts that came back.
        predictions: what the metric was given of them.
        scores: None on a split whose answers are withheld.
    """

    task: Task
    split: str
    examples: Sequence[Example]
    prompts: Sequence[str]
    raw_predictions: Sequence[str]
    predictions: Sequence[str]
    scores: Scores | None

    @property
    def value(self) -> float | None:
        """The headline figure."""
        return self.metrics[self.task.metric]

    @property
    def metrics(self) -> dict[str, float | None]:
        """Every figure by name; None where it is not available."""
        if self.scores is None:
            return {self.task.metric: None}
        figures = self.scores.figures.items()
        return {name: None if value is None else float(value) for name, value in figures}

    @property
    def reasons(self) -> dict[str, str]:
        """Why a figure is None."""
        if self.scores is None:
            return {self.task.metric: f"the answers of split '{self.split}' are withheld"}
        return dict(self.scores.reasons)

    @property
    def breakdown(self) -> dict[str, dict[str, float]]:
        """The mean score by each tag's values, in the headline's units."""
        tables: dict[str, defaultdict[str, list[float]]] = {
            tag: defaultdict(list) for tag in self.task.tags
        }
        scored = zip(self.examples, self.scores.values, strict=True) if self.scores else ()
        for example, value in scored:
            for tag, kinds in example.tags.items():
                for kind in dict.fromkeys(kinds):
                    tables[tag][kind].append(float(value))
        return {
            tag: {kind: fmean(table[kind]) for kind in sorted(table, key=_numbers_by_size)}
            for tag, table in tables.items()
        }

    def metrics_json(self) -> dict[str, Any]:
        """What metrics.json holds: unrounded plain numbers, null for what is not available."""
        content: dict[str, Any] = {
            "task": self.task.name,
            "split": self.split,
            "num_examples": len(self.examples),
            "metric": self.task.metric,
            "value": self.value,
            "metrics": self.metrics,
            "breakdown": self.breakdown,
        }
        if self.reasons:
            content["reasons"] = self.reasons
        if self.scores and self.scores.notes:
            content["notes"] = list(self.scores.notes)
        return content

    def prediction_rows(self) -> Iterator[dict[str, Any]]:
        """What predictions.jsonl holds, one example after the other."""
        for index, example in enumerate(self.examples):
            yield {
                "id": example.example_id,
                "prompt": self.prompts[index] if self.prompts else None,
                "raw_prediction": self.raw_predictions[index],
                "prediction": self.predictions[index],
                "references": list(example.references),
                "score": float(self.scores.values[index]) if self.scores else None,
            }

    def table(self) -> str:
        """A plain text for a terminal, the headline first."""
        lines = [f"{self.task.name}, split '{self.split}', {len(self.examples)} examples"]
        for name, value in self.metrics.items():
            shown = "not available" if value is None else f"{value:.4g}"
            reason = f"  ({self.reasons[name]})" if name in self.reasons else ""
            lines.append(f"  {name:<14} {shown}{reason}")
        return "\n".join([*lines, *(self.scores.notes if self.scores else ())])


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
    examples = list(dataset)
    check_ids((e.example_id for e in examples), f"{task.name} split '{dataset.split}'")
    raw_predictions = list(predict(examples))
    assert len(raw_predictions) == len(examples), "predict must answer each example once"
    assert len(prompts) in (0, len(examples)), "prompts must run parallel to the examples"
    predictions = [task.clean(raw) for raw in raw_predictions]
    is_hidden = dataset.split in task.hidden_splits
    score = task.score_headline if headline_only else task.score
    return Report(
        task=task,
        split=dataset.split,
        examples=examples,
        prompts=prompts,
        raw_predictions=raw_predictions,
        predictions=predictions,
        scores=None if is_hidden else score(predictions, examples),
    )


def write_report(report: Report, folder: Path) -> None:
    """Write predictions.jsonl and metrics.json; a reader never finds half a file.

    Raises:
        ValueError: the folder cannot be written to.
    """
    rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in report.prediction_rows())
    metrics = json.dumps(report.metrics_json(), ensure_ascii=False, indent=2, allow_nan=False)
    try:
        write_text(folder / "predictions.jsonl", "".join(rows))
        write_text(folder / "metrics.json", metrics + "\n")
    except OSError as error:
        raise ValueError(
            f"The results cannot be written to {folder}: {error.strerror}; choose another folder "
            "by --output_dir."
        ) from error


def _numbers_by_size(kind: str) -> tuple[int, str]:
    return (int(kind), kind) if kind.isdecimal() else (-1, kind)
