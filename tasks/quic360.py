"""QuIC-360: captions of 360-degree images that answer a query, several people's for each.

Maeda et al., "Query-based Image Captioning from Multi-context 360-degree Images", Findings of
EMNLP 2023 (https://aclanthology.org/volumes/2023.findings-emnlp/). Its files `train.csv`,
`valid.csv` and `test.csv` have the columns `url`, `query` and `annotation`, a row for each
annotator. The images are equirectangular, twice as wide as high, and opened as they are.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from tasks.base import Dataset, Example, Scores, Source, Turn
from tasks.csv_qa import CsvQa, Row, is_copy
from tasks.text_scoring import score_captions, score_texts


class Quic360(CsvQa):
    """Captions of what a query asks for, scored by CIDEr over the whole split."""

    name = "quic360"
    aliases = ("quic",)
    metric = "CIDEr"
    metric_range = 10.0
    rule = "CIDEr (CIDEr-D) over the whole split by (picture, query), after the PTB tokenizer"
    rule_source = "https://github.com/tylin/coco-caption, through pycocoevalcap"
    default_root = Path("data/quic360")

    def load(self, split: str, source: Source) -> Dataset:
        """Read the split's table."""
        if split not in source.tables and is_copy(source):
            raise ValueError(
                "quic360 groups captions by the image's URL, which a Hub copy does not keep; "
                "give its tables, or read the copy by --task csv_qa."
            )
        return super().load(split, source)

    def grouped(self, rows: Iterable[Row]) -> list[Row]:
        """Make an example for each (image, query), with the captions of all its annotators."""
        found: dict[tuple[tuple[str, ...], Turn], Row] = {}
        for row in rows:
            key = (tuple(image.name for image in row.images), row.asked)
            if before := found.get(key):
                row = replace(before, responses=before.responses + row.responses)
            found[key] = row
        return list(found.values())

    def working(self, prediction: str, references: Sequence[str]) -> Sequence[str]:
        """Explain by the n-grams that the caption shares with each reference."""
        from tasks.metrics.captioning import explain

        return explain(prediction, references)

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by CIDEr, which depends on the whole split, then by the other metrics of text."""
        return score_texts(predictions, examples, headline=self.metric)

    def score_headline(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score by CIDEr without METEOR and SPICE, whose programs take long to start."""
        return score_captions(predictions, examples, headline_only=True)
