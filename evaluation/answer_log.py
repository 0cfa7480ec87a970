"""Answers on the disk as they come, for an evaluation that is killed and resumed."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from common import processes

logger = logging.getLogger(__name__)

IMAGES = "images"  # the key of the hash over their files
_IN_WORDS = {
    "fingerprint": "other examples or images",
    IMAGES: "image files of another place or time",
}


class AnswerLog:
    """The answers of an evaluation so far, one file a process; its first line says of what.

    `batch_size` is the number that they were given by, where it was chosen for them: answers that
    are gone on with must come by the same batches.

    Args:
        folder: of the evaluation.
        identity: all that decides the answers, as JSON has it.
        resume: go on with what an earlier process left; otherwise it is replaced, and that is said.
        allow_other: replace answers of another identity instead of refusing them.

    Raises:
        ValueError: what is to be gone on with was answered otherwise; names what differs.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], *, resume: bool, allow_other: bool = False
    ) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        self.file: IO[str] | None = None
        self.batch_size: int | None = None
        found = [_read(path) for path in _paths(folder)]
        others = [_difference(self.identity, identity) for identity, _, _ in found]
        if resume and any(others) and not allow_other:
            raise ValueError(
                f"{folder} holds answers of an evaluation with {next(filter(None, others))}: "
                "resume with the same settings and data, or leave --resume out to start anew."
            )
        is_kept = resume and not any(others)
        known = [answers for _, _, answers in found]
        num_known = len({key for answers in known for key in answers})
        if num_known and processes.rank() == 0:
            logger.warning(
                "%d answers that an interrupted evaluation left in %s are %s.",
                *(num_known, folder),
                "used" if is_kept else "replaced; --resume goes on with them",
            )
        self.answers = {k: v for part in known for k, v in part.items()} if is_kept else {}
        if is_kept:
            self.batch_size = next((size for _, size, _ in found if size is not None), None)
        processes.gather(None)  # all have read before one writes
        if processes.rank() == 0:
            self._write_anew()
        processes.gather(None)

    def _write_anew(self) -> None:
        """Leave one file with all that is known, whoever wrote it."""
        _remove(self.folder)
        known, self.answers = self.answers, {}
        for key, text in known.items():
            self.add([key], [text])

    def has(self, ids: Collection[Any]) -> bool:
        """Return True where all of these examples are answered."""
        return all(example_id in self.answers for example_id in ids)

    def add(self, ids: Sequence[Any], texts: Sequence[str]) -> None:
        """Add answers; they are on their way to the disk when this returns."""
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f".answers-{processes.rank()}.jsonl"
            self.file = path.open("w", encoding="utf-8")
            first = {"identity": self.identity, "batch_size": self.batch_size}
            self.file.write(json.dumps(first) + "\n")
        for example_id, text in zip(ids, texts, strict=True):
            self.file.write(json.dumps({"id": example_id, "text": text}) + "\n")
            self.answers[example_id] = text
        self.file.flush()

    def close(self) -> None:
        """Close this process's file, which stays."""
        if self.file is not None:
            self.file.close()
            self.file = None


def has_answers(folder: Path) -> bool:
    """Return True where an interrupted evaluation left answers."""
    return bool(_paths(folder))


def baseline_folder(folder: Path, name: str) -> Path:
    """Return the folder for the answers so far of a baseline of an evaluation."""
    return folder / f".baseline-{name}"


def remove_answers(folder: Path) -> None:
    """Remove the answers so far of an evaluation and its baselines, once its scores are written."""
    _remove(folder)
    for place in folder.glob(baseline_folder(folder, "*").name):
        _remove(place)
        place.rmdir()


def _remove(folder: Path) -> None:
    for path in _paths(folder):
        path.unlink()


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob(".answers-*.jsonl"))


def _read(path: Path) -> tuple[dict[str, Any], int | None, dict[Any, str]]:
    """The identity, the batch size and the answers of a file; its last line may be torn."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if not rows or "identity" not in rows[0]:
        return {}, None, {}
    answers = {row["id"]: row["text"] for row in rows[1:]}
    return rows[0]["identity"], rows[0].get("batch_size"), answers


def _difference(now: Mapping[str, Any], then: Mapping[str, Any]) -> str | None:
    """The first that differs of settings and data, as a part of a sentence."""
    for key in {**now, **then} if then else ():
        if now.get(key) != then.get(key):
            return _IN_WORDS.get(key) or f"{key} {then.get(key)}, not {now.get(key)}"
    return None
