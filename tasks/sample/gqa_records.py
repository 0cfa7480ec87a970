"""A GQA question as a record of the official files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthetic.scenes import CELLS, Scene
from tasks.sample.gqa_questions import Question


@dataclass(frozen=True, slots=True)
class Picture:
    """The part that the records of an image share."""

    image_id: str
    number: int
    scene: Scene

    def object_id(self, cell: str) -> str:
        """Return the id of the object in a cell."""
        return f"{self.number}{CELLS.index(cell)}"


def make_record(
    question: Question,
    picture: Picture,
    entailed: Sequence[str],
    equivalent: Sequence[str],
    is_balanced: bool,
) -> dict[str, Any]:
    """Make the record, its keys in the official order."""
    structural, semantic, detailed = question.types
    program = _program(question, picture)
    return {
        "semantic": program,
        "entailed": entailed,
        "equivalent": equivalent,
        "question": question.text,
        "imageId": picture.image_id,
        "isBalanced": is_balanced,
        "groups": {"global": question.group, "local": question.local_group},
        "answer": question.answer,
        "semanticStr": "->".join(_step(operation) for operation in program),
        "annotations": {
            "answer": {},
            "question": _mentions(question.text, picture),
            "fullAnswer": _mentions(question.full_answer, picture),
        },
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": question.full_answer,
    }


def _program(question: Question, picture: Picture) -> list[dict[str, Any]]:
    return [
        {
            "operation": operation,
            "argument": re.sub(r"@(\d)", rf"{picture.number}\g<1>", argument),
            "dependencies": dependencies,
        }
        for operation, argument, dependencies in question.program
    ]


def _step(operation: dict[str, Any]) -> str:
    text = f"{operation['operation']}: {operation['argument']}"
    if not operation["dependencies"]:
        return text
    return f"{text} [{','.join(map(str, operation['dependencies']))}]"


def _mentions(text: str, picture: Picture) -> dict[str, str]:
    """Map words, as `first:end`, to the objects that they stand for: those that name its cell."""
    words = re.findall(r"[a-z]+", text)
    return {
        f"{start}:{start + 2}": picture.object_id(cell)
        for start in range(len(words) - 1)
        if (cell := " ".join(words[start : start + 2])) in picture.scene
    }
