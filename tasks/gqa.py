"""GQA: compositional questions about photographs; one answer of one or two words each.

Its files: `gqa_files.py`. Prompt: the PaliGemma transfer,
big_vision/configs/proj/paligemma/transfers/gqa.py.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from tasks.base import Dataset, Example, MissingSplit, Scores, Source, Task, Turn
from tasks.cleaning import clean_text
from tasks.gqa_files import COLUMNS, FILES, Row, read_rows
from tasks.hub import is_hub_copy
from tasks.metrics import gqa as metric


class Gqa(Task):
    """Compositional question answering, scored by the official accuracy and its companions."""

    name = "gqa"
    metric = "accuracy"
    columns = COLUMNS
    metric_range = 100.0
    max_new_tokens = 16
    prompts: ClassVar = {"paligemma": "answer en {question}", "default": "{question}"}
    train_splits = ("train", "train_all")
    eval_splits = ("testdev", "val", "testdev_all", "val_all")
    hidden_splits = ("test", "challenge", "submission")
    official_files = (
        r"\w+_(balanced|all)_questions(\.json)?|(test|challenge|submission)\w*_questions\.json"
    )
    rule = (
        "exact match on balanced questions; consistency over what they entail; grounding, which "
        "needs attention maps, is out of scope for a generator"
    )
    rule_source = "https://cs.stanford.edu/people/dorarad/gqa/evaluate.html, eval.py"
    id_type = str
    result_keys = ("questionId", "prediction")
    tags = ("structural", "semantic", "words", "steps")

    def load(self, split: str, source: Source) -> Dataset:
        """Read the official files (chunked ones too) or a Hub copy."""
        self.check_split(split)
        return Dataset(self, split, read_rows(split, source, hidden=split in self.hidden_splits))

    def load_to_score(self, split: str, source: Source, answered: Collection[Any]) -> Dataset:
        """Load as in Task; the split's questions balanced or not, where the file answers them all.

        That is what consistency takes. The figures count the balanced ones in either case.
        """
        if is_hub_copy(source) or split not in ("val", "testdev"):
            return self.load(split, source)
        balanced = None
        with suppress(MissingSplit):
            balanced = self.load(split, source)
            if {row.question_id for row in balanced.rows}.issuperset(answered):
                return balanced
        try:
            rows = self.load(f"{split}_all", source).rows
        except MissingSplit:
            if balanced is None:
                raise
            return balanced
        if any(row.question_id not in answered for row in rows):
            rows = [row for row in rows if row.details.question.is_balanced]
        return Dataset(self, split, rows)

    def example(self, row: Row) -> Example:
        """Make the example of a question."""
        question = row.details.question if row.details else None
        tags = {}
        if question and question.is_balanced:  # the official tables leave the others out
            tags = {
                "structural": (question.structural,),
                "semantic": (question.semantic,),
                "words": (str(question.num_words),),
                "steps": (str(question.num_steps),),
            }
        return Example(
            example_id=row.question_id,
            image=row.image,
            turns=(Turn("user", row.question),),
            references=(question.answer,) if question else (),
            tags=tags,
            details=row.details,
        )

    def clean(self, raw: str) -> str:
        """Lower-case, strip and drop one final period: the official rule compares exactly."""
        return clean_text(raw).lower().removesuffix(".").rstrip()

    def results_name(self, dataset: Dataset) -> str:
        """Return the name of the question file, which the official script is told by its tier."""
        return f"{FILES[dataset.split]}_predictions.json"

    def score(self, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
        """Score in percent, distribution (lower is better) apart."""
        by_id = {str(e.example_id): e.details for e in examples}
        answers = dict(zip(by_id, predictions, strict=True))
        choices = {key: details.choices for key, details in by_id.items() if details.choices}
        metrics = metric.gqa_metrics(
            {key: details.question for key, details in by_id.items()}, answers, choices or None
        )
        values = [
            100.0 * (answers[key] == details.question.answer)
            if details.question.is_balanced
            else None
            for key, details in by_id.items()
        ]
        return Scores(values=values, metrics=metrics.values, reasons=metrics.reasons)
