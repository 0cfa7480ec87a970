"""Checks of every split: unique ids, and references to score against."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tasks.base import Example


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


def check_references(examples: Sequence[Example]) -> None:
    """Raise ValueError, naming up to five, if an example has nothing to score against."""
    without = [example.example_id for example in examples if not example.references]
    if without:
        raise ValueError(
            f"{len(without)} of {len(examples)} examples have no reference answers "
            f"({name_some(without)}), so there is nothing to score them against; "
            "take a split whose answers are published."
        )


def name_some(culprits: Sequence[object], limit: int = 5) -> str:
    """List the first few, for an error message."""
    return ", ".join(map(str, culprits[:limit])) + (", …" if len(culprits) > limit else "")
