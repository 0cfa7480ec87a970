"""Which split is meant where none is named."""

from collections.abc import Collection, Sequence
from typing import Any

from common.collector import without_collector
from tasks.base import Dataset, MissingSplit, Source, Task
from tasks.contract import checked_dataset


def resolve_split(
    task: Task,
    split: str | None,
    source: Source,
    candidates: Sequence[str],
    answered: Collection[Any] | None = None,
) -> tuple[Dataset, str | None]:
    """Load a split; without a name the first of `candidates` whose files are there.

    Args:
        task: whose split.
        split: its name, or None.
        source: where it lies.
        candidates: split names, the preferred one first.
        answered: where predictions of a file are to be scored, the ids that it has them for.

    Returns:
        The split, and the sentence to show where it is not the default one.

    Raises:
        MissingSplit: no files for it; of the default split where none is there.
    """

    @without_collector()
    def load(name: str) -> Dataset:
        if answered is None:
            return checked_dataset(task, task.load(name, source))
        return checked_dataset(task, task.load_to_score(name, source, answered))

    if split is not None:
        task.check_split(split)
        return load(split), None
    missing: MissingSplit | None = None
    for candidate in candidates:
        try:
            dataset = load(candidate)
        except MissingSplit as error:
            missing = missing or error
            continue
        if missing is None:
            return dataset, None
        note = f"The default split '{candidates[0]}' is not there, so '{candidate}' is taken."
        return dataset, note
    assert missing is not None, "a task has at least one split of each use"
    raise missing
