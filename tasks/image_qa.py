"""Image question answering: any data set with an image, a question and its answers in each row.

The headline is VQA accuracy by the official script, https://github.com/GT-Vision-Lab/VQA, which is
made for the answers of ten people. Data with ten or more answers a question is scored as it stands.
Fewer are accepted answers, not votes: each stands for ten people who agree. With one answer these
are ten equal ones, and the script then normalises nothing: "Yes" is not "yes", though of
["yes", "yeah"] it would be. `--lenient` adds the figure with everything normalised.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar

from tasks.base import Example, Scores, Source
from tasks.csv_qa import CsvQa
from tasks.metrics.vqa import accuracy_of_accepted
from tasks.text_scoring import score_texts

_COLUMNS = {"instruction": "question", "response": "answer"}


class ImageQa(CsvQa):
    """Questions about images, from the user's data set, scored by VQA accuracy."""

    name = "image_qa"
    aliases: ClassVar[tuple[str, ...]] = ()
    metric = "vqa_accuracy"
    columns = ("image", "question", "answer", *_COLUMNS)
    metric_range = 100.0
    table_columns: ClassVar = {
        **CsvQa.table_columns,
        **{ours: (theirs,) for ours, theirs in _COLUMNS.items()},
    }
    max_new_tokens = 64
    prompts: ClassVar = {"paligemma": "answer en {question}", "default": "{question}"}
    rule = (
        "VQA accuracy of the official script; of fewer than ten answers each stands for ten "
        "people, so that any one counts in full, and a single one is compared exactly"
    )
    rule_source = "https://github.com/GT-Vision-Lab/VQA, vqaEval.py"

    def with_columns(self, source: Source) -> Source:
        """Name the columns image, question and answer, or those that are given in their place."""
        ours = {theirs: name for name, theirs in _COLUMNS.items()}
        named = {ours.get(name, name): column for name, column in source.columns.items()}
        return replace(source, columns={**_COLUMNS, **named})

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by VQA accuracy in percent, then by sacreBLEU, ROUGE-L and other text metrics."""
        accuracy = self.score_headline(predictions, examples)
        text = score_texts(predictions, examples, headline="rouge_l")
        return replace(text, values=accuracy.values, metrics={**accuracy.metrics, **text.metrics})

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by VQA accuracy in percent."""
        values = _accuracies(predictions, examples, always_normalize=False)
        return Scores(values=values, metrics={self.metric: fmean(values)})

    def lenient(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Score with case, punctuation and articles normalised for single answers too."""
        values = _accuracies(predictions, examples, always_normalize=True)
        return {"vqa_accuracy_always_normalized": fmean(values)}


def _accuracies(
    predictions: Sequence[str], examples: Sequence[Example], *, always_normalize: bool
) -> list[float]:
    return [
        100
        * accuracy_of_accepted(prediction, example.references, always_normalize=always_normalize)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
