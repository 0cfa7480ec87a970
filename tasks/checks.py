"""Checks of every split: unique ids, and references to score against."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tasks.base import Example, Task


def check_ids(ids: Iterable[int | str], where: str) -> None:
    """Raise ValueError if there is no id, or, naming up to five, if one comes twice."""
    counts = Counter(ids)
    if not counts:
        raise ValueError(f"{where} is empty: it lists no example.")
    repeated = [key for key, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"{where} has {len(repeated)} id(s) more than once: {name_some(repeated)}; "
            "each example needs a different id."
        )


def unanswered(task: Task, split: str, examples: Iterable[Example]) -> list[int | str]:
    """Return the ids of examples that lack the answer which each of their split must have.

    Of official files an answer without a letter is none. Tables may be answered in part.
    """
    if task.reads_tables or split in task.hidden_splits:
        return []
    may_be_blank = not task.official_files
    return [
        example.example_id
        for example in examples
        if not any(may_be_blank or text.strip() for text in example.references)
    ]


def check_references(task: Task, split: str, examples: Sequence[Example]) -> None:
    """Raise ValueError, naming up to five, if an example lacks its answer."""
    if without := unanswered(task, split, examples):
        raise ValueError(
            f"{task.name} split '{split}': {len(without)} of {len(examples)} examples have no "
            f"answer ({name_some(without)}), so there is nothing to learn from them or to score "
            "them against; correct or remove their records, or take a split whose answers are "
            "published."
        )


def name_some(culprits: Sequence[object], limit: int = 5) -> str:
    """List the first few, for an error message."""
    return ", ".join(map(str, culprits[:limit])) + (", …" if len(culprits) > limit else "")
