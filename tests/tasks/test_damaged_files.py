"""Damaged annotation files: one sentence, or each record is used or reported.

`python -m tests.tasks.test_damaged_files` prints the table of docs/reliability.md.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tasks.base import Source
from tasks.registry import get_task
from tasks.usable import check_split
from tests.tasks.damage import damage, num_records, write_format

KINDS = (
    *("vqav2", "vqav2 answers", "gqa", "docvqa", "coco_captioning", "csv", "jsonl"),
    *("conversations", "conversations jsonl"),
)
OUTCOMES = {kind: {"one sentence", "some reported", "all used"} for kind in KINDS}
OUTCOMES["jsonl"] = {"some reported", "all used"}  # a line is a row by itself, also the first
NUM_FILES = 500
_SLOW_S = 20.0  # a file of some kB takes milliseconds


def outcomes(kind: str, root: Path, num_files: int) -> Counter[str]:
    """Damage and read the file of a format so many times; anything but a sentence is raised."""
    task_name, path = write_format(kind, root)
    whole = path.read_bytes()
    task = get_task(task_name)
    found: Counter[str] = Counter()
    for seed in range(num_files):
        path.write_bytes(damage(kind, whole, Random(f"{kind}/{seed}")))
        start = time.monotonic()
        try:
            for is_listed in (False, True):
                try:
                    if is_listed:
                        usable, faults = check_split(task, "train", Source(data_root=root), 1)
                    else:
                        task.load("train", Source(data_root=root))
                except ValueError as error:
                    assert type(error) is not UnicodeDecodeError
                    assert "\n" not in str(error) and str(error).endswith((".", ")"))
                    outcome = "one sentence"
                    continue
                if is_listed:
                    count = num_records(kind, path, root)
                    assert len(usable) + len(faults) == count
                    outcome = "some reported" if faults else "all used"
        except Exception as error:
            error.add_note(f"{kind}, seed {seed}, {path.read_bytes()[:3000]!r}")
            raise
        assert time.monotonic() - start < _SLOW_S
        found[outcome] += 1
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(kind: str, tmp_path: Path) -> None:
    found = outcomes(kind, tmp_path / "data", 40)
    assert found.total() == 40 and found["some reported"] > 0
    assert ("one sentence" in found) == ("one sentence" in OUTCOMES[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_in_a_sentence_or_every_record_is_accounted_for(
    kind: str, tmp_path: Path
) -> None:
    found = outcomes(kind, tmp_path / "data", NUM_FILES)
    assert found.total() == NUM_FILES
    assert set(found) == OUTCOMES[kind]


if __name__ == "__main__":
    for name in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            counts = outcomes(name, Path(folder) / "data", NUM_FILES)
        names = ("one sentence", "some reported", "all used")
        cells = " | ".join(str(counts[outcome]) for outcome in names)
        sys.stdout.write(f"| {name} | {NUM_FILES} | {cells} |\n")
