"""The embedded data as its files have it."""

import json
from pathlib import Path
from typing import Any

from synthetic.scenes import COLORS, SHAPES

OPPOSITE = {"yes": "no", "no": "yes"}
SHAPE_PATTERN = rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def vqa_files(root: Path, split: str) -> tuple[Any, Any]:
    questions = read(root / f"Questions/v2_OpenEnded_mscoco_{split}_questions.json")
    return questions, read(root / f"Annotations/v2_mscoco_{split}_annotations.json")


def vqa_pairs(root: Path, split: str) -> list[tuple[str, Any]]:
    questions, annotations = vqa_files(root, split)
    return [
        (question["question"], annotation)
        for question, annotation in zip(
            questions["questions"], annotations["annotations"], strict=True
        )
    ]


def docvqa_records(root: Path, split: str) -> list[Any]:
    return list(read(root / f"spdocvqa_qas/{split}_v1.0_withQT.json")["data"])


def gqa_file(root: Path, stem: str) -> dict[str, Any]:
    return dict(read(root / f"questions1.2/{stem}_questions.json"))
