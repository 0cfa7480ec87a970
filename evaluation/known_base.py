"""The score of the untouched base, where an evaluation of it is at hand."""

from dataclasses import dataclass
from pathlib import Path

from common.json_files import read_json
from evaluation.result_folder import model_folder
from models.checkpoint import TINY
from tasks.report import Report

_SAME = (
    *("base_revision", "prompt_template", "max_length", "truncate", "system_message"),
    *("decoding", "rule", "data"),
)


@dataclass(frozen=True, slots=True)
class KnownBase:
    """The headline of the base by an earlier evaluation.

    Attributes:
        value: its headline.
        folder: of that evaluation.
    """

    value: float
    folder: Path


def find_base(report: Report) -> KnownBase | None:
    """Return the base's score of the same examples, asked alike; None where it is not known.

    It is looked for where `eval` writes the scores of a base; nothing is measured.

    Args:
        report: of an adapter, with its provenance.
    """
    origin = report.additions.get("provenance", {})
    if not origin.get("adapter"):
        return None
    place = model_folder(origin["base_model"], None, {}, report.task.name, report.split)
    for folder in (place, place.with_name(f"{place.name}_{len(report.examples)}_examples")):
        file = folder / "metrics.json"
        if not file.is_file():
            continue
        try:
            found = read_json(file)
        except ValueError:  # not ours to complain of
            continue
        known = found.get("provenance", {})
        is_same = all(known.get(name) == origin.get(name) for name in _SAME)
        is_base = known.get("adapter", "") is None and found.get("value") is not None
        if is_same and is_base and _place(known["base_model"]) == _place(origin["base_model"]):
            return KnownBase(found["value"], folder)
    return None


def _place(model: str) -> str:
    """Return the folder of a model in full; a Hub id as it is."""
    folder = TINY if model == "tiny" else Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model
