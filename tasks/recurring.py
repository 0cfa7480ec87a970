"""The tags of the user's own data: questions and answers that come again and again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from tasks.base import Example, Task

TAGS = ("question", "answer")
_MOST_VALUES = 12
_EXAMPLES_PER_VALUE = 5


def with_recurring_tags(task: Task, rows: Sequence[Any]) -> Sequence[Any]:
    """Tag the rows of a whole split by their question and by their answer, where these recur.

    A split has such a tag where there are 2 to 12 different values of it, and on average five
    examples or more for each: so a slip in one cell takes the tag from no other row, and neither
    do questions that are all different. Of several accepted answers the most frequent counts, the
    first of equals; an example without one has no such tag.

    Args:
        task: makes examples of rows.
        rows: structs with `tags`, of the whole split: a part of it keeps the tags of the whole.
    """
    counts: dict[str, Counter[str]] = {tag: Counter() for tag in TAGS}
    for row in rows:
        for tag, value in _values(task.example(row)):
            if tag in counts:
                counts[tag][value] += 1
                if len(counts[tag]) > _MOST_VALUES:
                    del counts[tag]
        if not counts:
            return rows
    kept = [
        tag
        for tag, found in counts.items()
        if len(found) > 1 and found.total() >= _EXAMPLES_PER_VALUE * len(found)
    ]
    if not kept:
        return rows
    shared: dict[tuple[tuple[str, str], ...], dict[str, tuple[str]]] = {}
    tagged = []
    for row in rows:
        own = tuple((tag, value) for tag, value in _values(task.example(row)) if tag in kept)
        tags = shared.setdefault(own, {tag: (value,) for tag, value in own})
        tagged.append(replace(row, tags=tags))
    return tagged


def _values(example: Example) -> Iterator[tuple[str, str]]:
    yield "question", example.turns[-1].text
    if example.references:
        yield "answer", Counter(example.references).most_common(1)[0][0]
