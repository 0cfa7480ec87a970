"""The examples of two evaluations in pairs, where both are of the same data and metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evaluation.own_code import best_score, used_hashes
from tasks.checks import name_some
from tasks.image_names import are_other_files

Pairs = list[tuple["Row", "Row"]]


class Identified(Protocol):
    """Part of a line of predictions.jsonl."""

    @property
    def id(self) -> int | str:
        """Return the example's id."""
        ...


class Row(Identified, Protocol):
    """The part of a line of predictions.jsonl that is compared."""

    @property
    def prediction(self) -> str:
        """Return the answer that was scored."""
        ...

    @property
    def references(self) -> tuple[str, ...]:
        """Return the accepted answers."""
        ...

    @property
    def score(self) -> float | None:
        """Return the score; None of a split without answers."""
        ...

    @property
    def question(self) -> str:
        """Return the question, not the prompt around it; empty where there is none."""
        ...

    @property
    def image(self) -> str | None:
        """Return the name of the first image; None where it is not known."""
        ...

    @property
    def images(self) -> Sequence[str]:
        """Return the names of all images where there are several; else nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Compared:
    """An evaluation that was read: its predictions.jsonl and its lines by id.

    Attributes:
        measured: task, split and metric; empty where they are not known.
        provenance: as in metrics.json; empty where it is not known.
    """

    file: Path
    measured: Mapping[str, str]
    lines: Mapping[int | str, Row]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """Return the best value that a score can have; None where it is not known."""
        of = self.measured
        return best_score(of["task"], of["metric"], self.provenance) if of else None


def same_measured(a: Compared, b: Compared) -> Mapping[str, str]:
    """Return the task, split and metric of both, or those of the one that says them.

    Raises:
        ValueError: they are not the same, or were scored by other bytes of the user's own code.
    """
    if a.measured and b.measured and a.measured != b.measured:
        first, second = (", ".join(compared.measured.values()) for compared in (a, b))
        raise ValueError(
            f"{a.file} is of {first} but {b.file} of {second}; give evaluations of the same."
        )
    if a.provenance and b.provenance:
        codes = [used_hashes(compared.provenance, "task", "metric") for compared in (a, b)]
        if codes[0] != codes[1]:
            first, second = (_said(code) for code in codes)
            raise ValueError(
                f"{a.file} was scored by {first} but {b.file} by {second}; score the answers of "
                "one anew as the other's, by eval.py --predictions."
            )
    return a.measured or b.measured


def _said(code: Mapping[str, str]) -> str:
    """What scored, as a part of a sentence."""
    found = [f"{name} of SHA-256 {sha256[:12]}" for name, sha256 in code.items()]
    return " and ".join(found) or "no code of your own"


def pair(
    a: Mapping[int | str, Row], b: Mapping[int | str, Row], where: str, allow_partial: bool
) -> tuple[Pairs, list[str]]:
    """Return the rows of the same id in the order of `a`, and what must be said beside them.

    Raises:
        ValueError: an id is in one alone and that is not allowed, or stands for another example.
    """
    single = [*(key for key in a if key not in b), *(key for key in b if key not in a)]
    if single and not allow_partial:
        raise ValueError(
            f"{len(single)} examples are in only one of {where}: {name_some(single)}; give "
            "evaluations of the same examples, or pass --allow_partial to compare the others."
        )
    pairs = [(row, b[key]) for key, row in a.items() if key in b]
    wording = _one_question_each(pairs)
    others = {
        "references": [x.id for x, y in pairs if x.references != y.references],
        "images": [x.id for x, y in pairs if are_other_files(_images(x), _images(y))],
        "questions": [x.id for x, y in pairs if not wording and _ask_otherwise(x, y)],
    }
    for what, ids in others.items():
        if ids:
            raise ValueError(
                f"{len(ids)} examples have different {what} in {where}: {name_some(ids)}; "
                "give evaluations on the same data."
            )
    left_out = f"Left out, in only one of the files: {len(single)}." if single else None
    return pairs, [note for note in (left_out, wording) if note]


def _images(row: Row) -> Sequence[str]:
    return row.images or ([row.image] if row.image else [])


def _ask_otherwise(x: Row, y: Row) -> bool:
    return bool(x.question and y.question) and x.question != y.question


def _one_question_each(pairs: Pairs) -> str | None:
    """A sentence where each asks one question alone, as by --question, in its own words."""
    asked = [{row.question for row in rows} for rows in zip(*pairs, strict=True)]
    if asked and all(len(questions) == 1 for questions in asked) and _ask_otherwise(*pairs[0]):
        first, second = (row.question for row in pairs[0])
        return f"The question of all is {first!r} in A and {second!r} in B."
    return None
