"""Digits: 1,797 handwritten digits, asked about as visual questions; comes with scikit-learn."""

from collections.abc import Sequence
from random import Random
from statistics import fmean
from typing import Any, ClassVar

from tasks.base import Dataset, Example, Scores, Source, Task, Turn
from tasks.images import ArrayImage


class Digits(Task):
    """Reading a handwritten digit, scored by accuracy in percent."""

    name = "digits"
    metric = "accuracy"
    metric_range = 100.0
    max_new_tokens = 4
    prompts: ClassVar = {"paligemma": "answer en {question}", "default": "{question}"}
    tags = ("digit",)
    needs_data = False
    image_terms = (
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, CC BY 4.0, "
        "https://doi.org/10.24432/C50P49"
    )

    def load(self, split: str, source: Source) -> Dataset:
        """Take the train or the held-out part of one fixed shuffle."""
        self.check_split(split)
        from sklearn.datasets import load_digits

        digits = load_digits()
        rows = list(zip(range(1797), digits.images, digits.target, strict=True))
        Random(0).shuffle(rows)
        return Dataset(self, split, rows[:1400] if split == "train" else rows[1400:])

    def example(self, row: tuple[int, Any, int]) -> Example:
        """Make the example of (id, 8 x 8 ink from 0 to 16, digit)."""
        index, ink, digit = row
        pixels = (255 - ink * (255 / 16)).astype("uint8")  # dark on light, as pens write
        return Example(
            example_id=index,
            image=ArrayImage(pixels, name=f"digit {index}", size=(64, 64)),
            turns=(Turn("user", "which digit is this?"),),
            references=(str(digit),),
            tags={"digit": (str(digit),)},
        )

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score 100 for the right digit, 0 for anything else."""
        pairs = zip(predictions, examples, strict=True)
        values = [100.0 * (prediction == example.references[0]) for prediction, example in pairs]
        return Scores(values=values, metrics={self.metric: fmean(values)})
