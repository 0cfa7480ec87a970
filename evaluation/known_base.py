"""The score to compare with, where it is at hand: of an adapter's base, of a base's adapter."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.json_files import read_json
from evaluation.own_code import used_hashes
from evaluation.result_folder import model_folder
from models.checkpoint import TINY
from tasks.report import Report

_SAME = (
    *("base_revision", "prompt_template", "max_length", "truncate", "system_message"),
    *("decoding", "rule", "data"),
)


@dataclass(frozen=True, slots=True)
class KnownScore:
    """The headline of an earlier evaluation.

    Attributes:
        value: its headline.
        folder: of that evaluation.
        where: the folder, with the precision where that is another one.
    """

    value: float
    folder: Path
    where: str


def find_base(report: Report) -> KnownScore | None:
    """Return the base's score of the same examples, asked alike; None where it is not known.

    It is looked for where `eval` writes the scores of a base; nothing is measured.

    Args:
        report: of an adapter, with its provenance.
    """
    origin = report.additions.get("provenance", {})
    if not origin.get("adapter"):
        return None
    place = model_folder(origin["base_model"], None, {}, report.task.name, report.split)
    return _find(report, place.parent.glob("*/metrics.json"), is_base=True)


def find_adapted(report: Report, run: Path) -> KnownScore | None:
    """Return a run's own score of the same examples, asked alike; None where it is not known.

    Args:
        report: of the base, with its provenance.
        run: the folder of the adapter.
    """
    return _find(report, (run / "evaluation").rglob("metrics.json"), is_base=False)


def _find(report: Report, files: Iterable[Path], *, is_base: bool) -> KnownScore | None:
    origin, others = report.additions["provenance"], []
    for file in sorted(files):
        try:
            found = read_json(file)
        except ValueError:  # not ours to complain of
            continue
        known = found.get("provenance", {})
        is_same = (
            found.get("task") == report.task.name
            and all(known.get(name) == origin.get(name) for name in _SAME)
            and _code(known) == _code(origin)
        )
        is_wanted = (known.get("adapter", "") is None) == is_base and found.get("value") is not None
        if is_same and is_wanted and _place(known["base_model"]) == _place(origin["base_model"]):
            held = known.get("quantization")
            if held == origin["quantization"]:
                return KnownScore(found["value"], file.parent, str(file.parent))
            others.append(KnownScore(found["value"], file.parent, f"{file.parent}, held in {held}"))
    return others[0] if others else None


def _code(origin: Mapping[str, Any]) -> Mapping[str, str]:
    return used_hashes(origin, "task", "metric", "family")


def _place(model: str) -> str:
    """Return the folder of a model in full; a Hub id as it is."""
    folder = TINY if model == "tiny" else Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model
