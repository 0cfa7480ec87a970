"""Where the scores of a model go."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec

from evaluation.answer_log import has_answers
from evaluation.gallery import FOLDER as GALLERY
from evaluation.provenance import describe_data
from models.run_record import evaluation_folder, trained_on
from tasks.base import Example

logger = logging.getLogger(__name__)

WRITTEN = ("predictions.jsonl", "metrics.json", "predictions.csv", "report.html")


def model_folder(
    model_path: str, adapter: Path | None, run: Mapping[str, Any], task_name: str, name: str
) -> Path:
    """Return the folder of a model's scores: beside its adapter where that is of this task.

    So a run keeps what was measured of it.

    Args:
        model_path: as it was given.
        adapter: its folder; None where there is none.
        run: the content of the run.json beside it.
        task_name: of the task.
        name: of the split; of a table of `--csv` its own, as a run may have another under `test`.
    """
    is_here = Path(model_path).expanduser().is_dir()  # and not the cache of the Hub
    if adapter is not None and is_here and task_name in (trained_on(run) or [task_name]):
        return evaluation_folder(adapter, run, task_name, name)
    model = Path(model_path).name or "model"
    return Path("runs") / "evaluation" / model / task_name / name


class _Data(msgspec.Struct, frozen=True):
    split: str | None = None
    fingerprint: str | None = None


class _Provenance(msgspec.Struct, frozen=True):
    data: _Data = _Data()


class Known(msgspec.Struct, frozen=True):
    """The part of an evaluation's metrics.json that says what its scores are of."""

    task: str
    split: str
    metric: str
    num_examples: int
    provenance: _Provenance = _Provenance()


@dataclass(frozen=True, slots=True)
class Scored:
    """The examples that scores are of, and by which task."""

    task: str
    split: str
    examples: Sequence[Example]

    def may_replace(self, known: Known) -> bool:
        """Return True of known scores of the same task and split, and of no more examples."""
        is_same = (known.task, known.split) == (self.task, self.split)
        return is_same and known.num_examples <= len(self.examples)

    def is_same(self, known: Known) -> bool:
        """Return True of known scores of these very examples."""
        data, then = describe_data(self.split, self.examples), known.provenance.data
        now = (self.task, data["split"], data["fingerprint"])
        return (known.task, then.split, then.fingerprint) == now


def check_ours(folder: Path, *names: str) -> None:
    """Refuse a folder with somebody else's files where an evaluation writes its own.

    Args:
        folder: of the scores; it need not exist.
        names: of further files that will be written.

    Raises:
        ValueError: there is such a file, and no evaluation's metrics.json or answers beside it.
    """
    if read_scores(folder) is not None or has_answers(folder):
        return
    for pattern in (*WRITTEN, *names, f"{GALLERY}/sample_*.png"):
        for file in sorted(folder.glob(pattern)):
            raise ValueError(
                f"{file} would be written over, and is not of an evaluation that `eval` wrote to "
                f"{folder}; choose another folder by --output_dir."
            )


def read_scores(folder: Path) -> Known | None:
    """Return the scores of an evaluation in a folder; None where there are none of ours."""
    try:
        return msgspec.json.decode((folder / "metrics.json").read_bytes(), type=Known)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def choose_folder(asked: Path | None, default: Path, scored: Scored) -> Path:
    """Return the folder for scores: the one that is asked for, else one where none are lost.

    Scores of fewer examples than those in the default folder, or of another task or split, go
    beside it, and there replace those of the very same examples alone. What is replaced, and what
    is left, is said in a sentence.
    """
    folder = asked or default
    known = read_scores(folder)
    if known is None or (asked and scored.is_same(known)):
        return folder
    if asked or scored.may_replace(known):
        _say_replaced(folder, known)
        return folder
    beside = _beside(folder, scored)
    logger.warning(
        "%s holds the scores of %s and is left; those of %d go to %s.",
        *(folder, _described(known), len(scored.examples), beside),
    )
    return beside


def _beside(folder: Path, scored: Scored) -> Path:
    """The first folder beside another that is free, or holds scores of the very same examples."""
    name = f"{folder.name}_{len(scored.examples)}_examples"
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(
        place
        for place in map(folder.with_name, names)
        if (known := read_scores(place)) is None or scored.is_same(known)
    )


def _say_replaced(folder: Path, known: Known) -> None:
    logger.warning("The scores of %s in %s are replaced.", _described(known), folder)


def _described(known: Known) -> str:
    return f"{known.num_examples} examples ({known.task}, split '{known.split}')"
